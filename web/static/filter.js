// @ts-check
// A condition on the columns of the crop table: picked from lists, or written as SQL.

import { el } from "./dom.js";

const name = (column) => (/^[a-z_]\w*$/i.test(column) && !["left", "right"].includes(column) ? column : `"${column.replaceAll('"', '""')}"`);
/** A text as SQL writes it. */
export const quoted = (value) => `'${value.replaceAll("'", "''")}'`;

/** Conditions as one, all of which must hold. */
export const together = (conditions) => (conditions.length > 1 ? conditions.map((one) => `(${one})`).join(" AND ") : conditions[0] || "");

/** What a list is limited to, always in sight: each can be taken off. parts: {text, off}; count: what is left, in words. */
export function chips(parts, count) {
  return [
    ...parts.map(({ text, off }) => el("button", { type: "button", class: "chip", title: "take it off", "aria-label": `take off the filter ${text}`, onclick: off }, text, el("span", { "aria-hidden": "true" }, " ✕"))),
    parts.length ? el("span", { class: "faint", role: "status" }, count) : "",
  ];
}

/** A row of controls; calls apply(conditions) when one is set or taken off. */
export function filterBar(columns, apply, given = []) {
  let conditions = given;
  const set = (stated) => {
    conditions = stated;
    apply(conditions);
  };
  const column = el("select", { "aria-label": "column" }, ...columns.map((item) => el("option", { value: item.name }, item.name)));
  const value = el("span");
  const sql = el("input", { class: "grow", placeholder: "all crops", "aria-label": "condition in SQL", spellcheck: false, value: together(given) });
  const chosen = () => columns.find((item) => item.name === column.value);

  function drawValue() {
    const item = chosen();
    if (!item) return;
    if (item.values) {
      const select = el("select", { "aria-label": "value" }, ...item.values.map((entry) => el("option", { value: entry }, entry)));
      value.replaceChildren(select);
    } else {
      const from = el("input", { type: "number", step: "any", value: item.low, "aria-label": "from", size: 7 });
      const to = el("input", { type: "number", step: "any", value: item.high, "aria-label": "to", size: 7 });
      value.replaceChildren(from, " to ", to);
    }
  }

  function add() {
    const item = chosen();
    const [first, second] = value.querySelectorAll("select, input");
    let condition;
    if (!item.values) condition = `${name(item.name)} BETWEEN ${Number(first.value)} AND ${Number(second.value)}`;
    else if (["true", "false"].includes(first.value) && item.values.length === 2 && item.values[0] === "true") condition = `${name(item.name)} = ${first.value}`;
    else condition = `${name(item.name)} = ${quoted(first.value)}`;
    // Two values of a column are either of them.
    const head = `${name(item.name)} `;
    const same = conditions.find((one) => one.startsWith(`${head}= '`) || one.startsWith(`${head}IN (`));
    if (!item.values || !same) return set([...conditions, condition]);
    const values = same.startsWith(`${head}= `) ? same.slice(head.length + 2) : same.slice(head.length + 4, -1);
    if (!values.includes(quoted(first.value))) set(conditions.map((one) => (one === same ? `${head}IN (${values}, ${quoted(first.value)})` : one)));
  }

  const added = columns.find((item) => item.name === "added" && item.high > 0);
  const news = added ? [el("button", { type: "button", title: "what was added to the pile last", onclick: () => set([`added = ${added.high}`]) }, "new")] : [];
  if (columns.some((item) => item.name === "label_name")) column.value = "label_name";
  column.addEventListener("change", drawValue);
  drawValue();
  const form = el("form", { class: "filter", onsubmit: (event) => (event.preventDefault(), set(sql.value.trim() ? [sql.value.trim()] : [])) },
    el("span", { class: "faint" }, "Only"), column, value,
    el("button", { type: "button", onclick: add }, "add"), sql,
    el("button", {}, "apply"),
    el("button", { type: "button", onclick: () => set([]) }, "all"), ...news);
  form.condition = sql;
  // What is shown now; what is being written stays.
  form.say = (stated) => {
    conditions = stated;
    if (document.activeElement !== sql) sql.value = together(stated);
  };
  return form;
}
