// Sphinx's scores, and a rank of pages: lessons before deeper notebooks, solutions last.
const RANKS = { "notebooks/0": 20, "notebooks/deeper/": 10, "docs/": 10, "notebooks/solutions/": -10 };
Scorer = {
  score: ([page, , , , score]) =>
    score + (Object.entries(RANKS).find(([start]) => page.startsWith(start)) ?? ["", 0])[1],
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
