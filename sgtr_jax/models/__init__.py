"""The decoder of Qwen2/2.5 and Seed-OSS: one forward pass, numbers from the checkpoint's config.json."""
