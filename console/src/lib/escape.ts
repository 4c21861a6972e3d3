import type { Attachment } from 'svelte/attachments';

/** Calls `leave` on Escape anywhere inside, and keeps the key from what is around. */
export function onEscape(leave: () => unknown): Attachment<HTMLElement> {
  return (element) => {
    const listen = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      leave();
    };
    element.addEventListener('keydown', listen);
    return () => element.removeEventListener('keydown', listen);
  };
}
