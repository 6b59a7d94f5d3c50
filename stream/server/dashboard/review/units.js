// FACS action units as coders write them: "1B+L4C", "R12". Pure.

const UNIT = /^([LRB]?)(\d{1,2})([A-E]?)$/;
const SIDES = { L: "left", R: "right", B: "both", "": "both" };

// Raises Error that names what can't be read.
export function parseUnits(text) {
  return text.toUpperCase().split(/[\s,+;]+/).filter(Boolean).map((word) => {
    const found = UNIT.exec(word.replace(/^AU/, ""));
    if (!found || Number(found[2]) === 0) throw new Error(`${word} is no action unit; write 4, 4B or L4B`);
    return { number: Number(found[2]), side: SIDES[found[1]], intensity: found[3] };
  });
}

export const unitsText = (units) =>
  units.map(({ number, side, intensity }) => `${{ left: "L", right: "R" }[side] ?? ""}${number}${intensity}`).join("+");
