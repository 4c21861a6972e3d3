/** Counts changes of light and dark, for what is drawn and not styled. */

class Theme {
  turns = $state(0);

  constructor() {
    const turn = () => (this.turns += 1);
    new MutationObserver(turn).observe(document.documentElement, { attributeFilter: ['data-theme'] });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', turn);
  }

  /** A colour of app.css as it is now. */
  colour(name: string): string {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }
}

export const theme = new Theme();
