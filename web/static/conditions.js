// @ts-check
// What a list is limited to, as SQL: conditions that facets write, read, join and put into the words of people.

import { T, short } from "./text.js";

const quotedName = (column) => (/^[a-z_]\w*$/i.test(column) && !["left", "right"].includes(column) ? column : `"${column.replaceAll('"', '""')}"`);
/** A text as SQL writes it. */
export const quoted = (value) => `'${value.replaceAll("'", "''")}'`;

/** Conditions as one, all of which must hold. */
export const together = (conditions) => (conditions.length > 1 ? conditions.map((one) => `(${one})`).join(" AND ") : conditions[0] || "");

/** What people call a column. */
export const nameOf = (column) => T.filter.columns[column] ?? column.replaceAll("_", " ");

/** A condition that a facet wrote: {column, values} or {column, low, high}; null for any other. */
export function parsed(condition) {
  const found = condition.match(/^(?:"((?:[^"]|"")+)"|([a-z_]\w*)) (.*)/is);
  if (!found) return null;
  const [, inQuotes, bare, rest] = found;
  const column = bare ?? inQuotes.replaceAll('""', '"');
  const between = rest.match(/^BETWEEN (-?[\d.e+-]+) AND (-?[\d.e+-]+)$/i);
  if (between) return { column, low: Number(between[1]), high: Number(between[2]) };
  const one = "(?:'(?:[^']|'')*'|true|false)";
  const listed = rest.match(new RegExp(`^(?:= (${one})|IN \\((${one}(?:, ${one})*)\\))$`, "s"));
  if (!listed) return null;
  const values = [...(listed[1] ?? listed[2]).matchAll(new RegExp(one, "g"))].map(([text]) => text.replace(/^'|'$/g, "").replaceAll("''", "'"));
  return { column, values };
}

/** A condition in the words of people. */
export function inWords(condition) {
  const known = parsed(condition);
  if (!known) return condition;
  const column = nameOf(known.column);
  return known.values ? T.filter.is(column, known.values.map((value) => value || T.filter.none).join(T.filter.or)) : T.filter.range(column, short(known.low), short(known.high));
}

/** The condition on a column that a facet wrote, among others: {condition, column, values or low and high}; undefined if there is none. */
export function conditionOn(column, conditions) {
  return conditions.map((condition) => ({ condition, ...parsed(condition) })).find((one) => one.column === column);
}

/** Conditions with another one on a column in the place of the one there was; "" takes it off. */
export function limited(conditions, column, condition) {
  const before = conditionOn(column, conditions)?.condition;
  if (before === undefined) return condition ? [...conditions, condition] : conditions;
  return conditions.map((one) => (one === before ? condition : one)).filter(Boolean);
}

/** Conditions in which a column may have one value more, or one less. isTruth: whether its values are true and false. */
export function toggled(conditions, column, value, isTruth) {
  const values = conditionOn(column, conditions)?.values ?? [];
  const chosen = values.includes(value) ? values.filter((one) => one !== value) : [...values, value];
  const stated = chosen.map((one) => (isTruth ? one : quoted(one)));
  return limited(conditions, column, chosen.length ? `${quotedName(column)} IN (${stated.join(", ")})` : "");
}

/** Conditions in which a column lies between two numbers, given in any order; in none where that is all there is, from low to high. */
export function ranged(conditions, column, ends, low, high) {
  const [from, to] = [Math.min(...ends), Math.max(...ends)];
  return limited(conditions, column, from <= low && to >= high ? "" : `${quotedName(column)} BETWEEN ${from} AND ${to}`);
}
