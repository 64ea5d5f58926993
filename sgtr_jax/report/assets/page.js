"use strict";
// The answers come as rows of indices into lists of conditions, evaluations and questions.
(function () {
  const holder = document.getElementById("answers-data");
  const $ = (id) => document.getElementById(id);
  if (holder) {
    const data = JSON.parse(holder.textContent);
    const PAGE = 50;
    let shown = PAGE;

    const option = (select, value, text) => {
      const one = document.createElement("option");
      one.value = value;
      one.textContent = text;
      select.append(one);
    };
    data.conditions.forEach((name, i) => option($("f-condition"), i, name));
    data.evaluations.forEach((name, i) => option($("f-evaluation"), i, name));

    // Questions of one evaluation only, so that the list stays short.
    function listQuestions() {
      const select = $("f-question");
      const evaluation = $("f-evaluation").value;
      select.length = 1;
      if (evaluation === "") return;
      const seen = new Set();
      for (const row of data.rows) if (row[2] === Number(evaluation)) seen.add(row[3]);
      [...seen].slice(0, 500).forEach((q) => option(select, q, data.questions[q].slice(0, 80)));
    }

    function matching() {
      const number = (id) => ($(id).value === "" ? null : Number($(id).value));
      const condition = number("f-condition"), evaluation = number("f-evaluation"), question = number("f-question");
      const low = number("f-low"), high = number("f-high"), score = $("f-score").value;
      const text = $("f-text").value.toLowerCase();
      return data.rows.filter((row) => {
        if (condition !== null && row[0] !== condition) return false;
        if (evaluation !== null && row[2] !== evaluation) return false;
        if (question !== null && row[3] !== question) return false;
        const value = score === "value" ? row[5] : row[6][score];
        if (low !== null && !(typeof value === "number" && value >= low)) return false;
        if (high !== null && !(typeof value === "number" && value <= high)) return false;
        return !text || row[4].toLowerCase().includes(text) || data.questions[row[3]].toLowerCase().includes(text);
      });
    }

    function cell(tr, text, kind) {
      const td = document.createElement("td");
      td.className = kind;
      td.textContent = text;
      tr.append(td);
    }

    function draw() {
      const rows = matching();
      const body = $("answers-body");
      body.textContent = "";
      for (const row of rows.slice(0, shown)) {
        const tr = document.createElement("tr");
        cell(tr, data.conditions[row[0]] + "\nseed " + row[1], "text short");
        cell(tr, data.evaluations[row[2]] + "\n" + data.questions[row[3]], "text");
        cell(tr, row[4], "text");
        const scores = Object.entries(row[6]).map(([key, value]) =>
          key + " " + (typeof value === "number" ? Math.round(value * 100) / 100 : value));
        cell(tr, [row[5] === null ? "no score" : String(row[5]), ...scores].join("\n"), "text");
        body.append(tr);
      }
      $("answers-count").textContent = rows.length + " of " + data.rows.length + " answers";
      $("answers-more").hidden = rows.length <= shown;
    }

    const names = new Set();
    for (const row of data.rows) for (const key of Object.keys(row[6])) if (typeof row[6][key] === "number") names.add(key);
    names.forEach((name) => option($("f-score"), name, name));
    $("f-evaluation").addEventListener("input", listQuestions);
    for (const input of document.querySelectorAll(".filters input, .filters select"))
      input.addEventListener("input", () => { shown = PAGE; draw(); });
    $("answers-more").addEventListener("click", () => { shown += PAGE; draw(); });
    draw();
  }

  const sources = document.getElementById("provenance-data");
  if (sources) {
    const data = JSON.parse(sources.textContent);
    const select = $("p-cell");
    data.cells.forEach(([condition, seed, evaluation], i) => {
      const one = document.createElement("option");
      one.value = i;
      one.textContent = evaluation + ", " + condition + ", seed " + seed;
      select.append(one);
    });
    const trace = (name, depth) => {
      const made = data.artifacts[name];
      if (!made) return "";
      const mesh = made.mesh ? ", mesh " + made.mesh : "";
      const source = made.source ? ", read from " + made.source : "";
      const line = "  ".repeat(depth) + name + "\n" + "  ".repeat(depth + 2) + made.made + ", sgtr-jax " + made.code +
        ", jax " + made.packages.jax + ", " + made.devices + mesh + source + "\n";
      return line + Object.values(made.from).map((source) => trace(source, depth + 1)).join("");
    };
    const show = () => { $("p-trace").textContent = data.cells.length ? trace(data.cells[select.value][3], 0) : ""; };
    select.addEventListener("input", show);
    show();
  }
})();
