import "./browser.js";

import assert from "node:assert/strict";
import { test } from "node:test";

import { conditionOn, inWords, limited, nameOf, parsed, quoted, ranged, toggled, together } from "../../web/static/conditions.js";

test("texts are quoted as SQL quotes them", () => {
  assert.equal(quoted("beet"), "'beet'");
  assert.equal(quoted("it's o'clock"), "'it''s o''clock'");
});

test("conditions are joined so that each keeps its meaning", () => {
  assert.equal(together([]), "");
  assert.equal(together(["a = 1 OR b = 2"]), "a = 1 OR b = 2");
  assert.equal(together(["a = 1 OR b = 2", "c = 3"]), "(a = 1 OR b = 2) AND (c = 3)");
});

test("what facets write is read again", () => {
  const known = [
    ["species IN ('Maize')", "species", ["Maize"]],
    ["species IN ('Maize', 'Pea, green', '')", "species", ["Maize", "Pea, green", ""]],
    ["species = 'it''s'", "species", ["it's"]],
    ["species IN ('''', '', 'it''''s')", "species", ["'", "", "it''s"]],
    ["SPECIES = 'x\ny'", "SPECIES", ["x\ny"]],
    ["wet = true", "wet", ["true"]],
    ["wet IN (true, false)", "wet", ["true", "false"]],
    [`"left ""side""" IN ('1')`, 'left "side"', ["1"]],
    [`"_ 2" = 'a'`, "_ 2", ["a"]],
    [`_2 = 'a'`, "_2", ["a"]],
  ];
  for (const [condition, column, values] of known) assert.deepEqual(parsed(condition), { column, values });
  assert.deepEqual(parsed("leaves BETWEEN -4.5 AND 1e+06"), { column: "leaves", low: -4.5, high: 1e6 });
  assert.deepEqual(parsed("leaves between 4 and 6"), { column: "leaves", low: 4, high: 6 });
});

test("other SQL is nobody's column", () => {
  const others = [
    "leaves > 4", "species = 'a' OR species = 'b'", "species IN ('a') AND leaves > 4", "NOT species IN ('a')", "species IN ()",
    "leaves BETWEEN 4 AND 6 OR true", "species IN ('a', )", "2nd = 'a'", "lower(species) = 'a'", "species", "x = yes", "leaves NOT BETWEEN 4 AND 6",
  ];
  for (const condition of others) assert.equal(parsed(condition), null, condition);
});

test("conditions in the words of people", () => {
  assert.equal(inWords("label_name IN ('Maize', '')"), "class: Maize or (none)");
  assert.equal(inWords("true_leaves BETWEEN 4.00004 AND 12345"), "true leaves 4 to 12300");
  assert.equal(inWords("true_leaves > 4"), "true_leaves > 4");
  assert.equal(nameOf("session"), "recording");
  assert.equal(nameOf("growth_stage_2"), "growth stage 2");
});

test("the condition on a column is found among others", () => {
  const conditions = ["leaves > 4", "species IN ('Pea')", "leaves BETWEEN 1 AND 2"];
  assert.deepEqual(conditionOn("species", conditions), { condition: conditions[1], column: "species", values: ["Pea"] });
  assert.deepEqual(conditionOn("leaves", conditions), { condition: conditions[2], column: "leaves", low: 1, high: 2 });
  assert.equal(conditionOn("lighting", conditions), undefined);
});

test("a condition takes the place of the one on its column", () => {
  const conditions = ["leaves > 4", "species IN ('Pea')", "wet = true"];
  assert.deepEqual(limited(conditions, "species", "species IN ('Maize')"), ["leaves > 4", "species IN ('Maize')", "wet = true"]);
  assert.deepEqual(limited(conditions, "species", ""), ["leaves > 4", "wet = true"]);
  assert.deepEqual(limited(conditions, "age", "age = '1'"), [...conditions, "age = '1'"]);
  assert.deepEqual(limited(conditions, "age", ""), conditions);
});

test("values are ticked one after the other", () => {
  let conditions = toggled(["leaves > 4"], "species", "Pea", false);
  assert.deepEqual(conditions, ["leaves > 4", "species IN ('Pea')"]);
  conditions = toggled(conditions, "species", "it's", false);
  assert.deepEqual(conditions, ["leaves > 4", "species IN ('Pea', 'it''s')"]);
  conditions = toggled(conditions, "species", "Pea", false);
  assert.deepEqual(conditions, ["leaves > 4", "species IN ('it''s')"]);
  assert.deepEqual(toggled(conditions, "species", "it's", false), ["leaves > 4"]);
  assert.deepEqual(toggled([], "wet", "true", true), ["wet IN (true)"]);
  assert.deepEqual(toggled([], "left", "a", false), [`"left" IN ('a')`]);
  assert.deepEqual(toggled([], "right", "a", false), [`"right" IN ('a')`]);
  assert.deepEqual(toggled([], 'my "own', "a", false), [`"my ""own" IN ('a')`]);
  assert.deepEqual(toggled([], "Own2", "a", false), ["Own2 IN ('a')"]);
  assert.deepEqual(toggled([], "2own", "a", false), [`"2own" IN ('a')`]);
  assert.deepEqual(toggled([], "own-2", "a", false), [`"own-2" IN ('a')`]);
});

test("a range is written from its lower end, and not where it is all there is", () => {
  assert.deepEqual(ranged(["wet = true"], "leaves", [6, 4], 0, 9), ["wet = true", "leaves BETWEEN 4 AND 6"]);
  assert.deepEqual(ranged(["leaves BETWEEN 4 AND 6"], "leaves", [0, 9], 0, 9), []);
  assert.deepEqual(ranged(["leaves BETWEEN 4 AND 6"], "leaves", [-1, 12], 0, 9), []);
  assert.deepEqual(ranged([], "leaves", [0, 8], 0, 9), ["leaves BETWEEN 0 AND 8"]);
  assert.deepEqual(ranged([], "leaves", [1, 9], 0, 9), ["leaves BETWEEN 1 AND 9"]);
});
