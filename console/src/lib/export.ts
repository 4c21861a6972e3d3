/** What is shown, as a file: CSV whose cells no spreadsheet takes for formulas, and JSON. */

/** Spreadsheets run what begins so, also within quotes of its own. */
const FORMULA = /^[\s"]*[=+\-@\uff1d\uff0b\uff0d\uff20]/;
/** In many countries a semicolon begins a new cell, whatever the quotes say. */
const NEXT_FORMULA = /;(?=[\s"]*[=+\-@\uff1d\uff0b\uff0d\uff20])/g;

/** A cell. An apostrophe makes a formula text. */
export function csvCell(value: unknown): string {
  const text = value === null || value === undefined ? '' : String(value);
  const inside = typeof value === 'number' ? text : text.replace(NEXT_FORMULA, ";'");
  const plain = FORMULA.test(text) && typeof value !== 'number' ? `'${inside}` : inside;
  return /[",;\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

/** Rows as CSV (RFC 4180), the names of the columns first. */
export function csv(columns: readonly string[], rows: readonly (readonly unknown[])[]): string {
  return [columns, ...rows].map((row) => row.map(csvCell).join(',')).join('\r\n') + '\r\n';
}

/** Hands a text to the browser as a file to keep. */
export function save(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
