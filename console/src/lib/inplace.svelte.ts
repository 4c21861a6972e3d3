import { tick } from 'svelte';
import { messageOf } from './words';

/** A form that opens in place, beside the button that opens it: one thing is asked, done once, and what failed is told where it was asked. */
export class InPlace {
  open = $state(false);
  busy = $state(false);
  fault = $state('');
  opener: HTMLButtonElement | undefined = $state();

  /** Closes it, and gives the focus back to the button. */
  leave = async (): Promise<void> => {
    this.open = false;
    this.fault = '';
    await tick();
    this.opener?.focus();
  };

  /** Does what was asked. */
  async send(work: () => Promise<unknown>): Promise<void> {
    this.busy = true;
    this.fault = '';
    try {
      await work();
    } catch (error) {
      this.fault = messageOf(error);
    } finally {
      this.busy = false;
    }
  }
}
