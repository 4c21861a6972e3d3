/** The live stream: one EventSource, reopened with growing pauses when it breaks, its state always known. */

export type LinkState = 'connecting' | 'live' | 'lost';

export interface StreamHandlers {
  /** An event of the stream with its parsed data. */
  event: (name: string, data: unknown) => void;
  /** The state changed. On `live` everything missed in between has to be fetched again. */
  state: (state: LinkState) => void;
}

export const STREAM_EVENTS = ['request', 'decision', 'withdrawal', 'nodes', 'held', 'counters'] as const;

export class Stream {
  private source: EventSource | null = null;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;

  constructor(
    private readonly url: string,
    private readonly handlers: StreamHandlers,
  ) {}

  open(): void {
    this.close();
    const source = new EventSource(this.url);
    this.source = source;
    source.onopen = () => {
      this.failures = 0;
      this.handlers.state('live');
    };
    source.onerror = () => {
      // The browser's own reconnecting gives up on some answers and not on others; ours treats all alike.
      this.close();
      this.handlers.state('lost');
      this.retry = setTimeout(() => this.open(), backoffMs(this.failures++));
    };
    for (const name of STREAM_EVENTS) {
      source.addEventListener(name, (message: MessageEvent<string>) => {
        const data = parse(message.data);
        if (data !== undefined) this.handlers.event(name, data);
      });
    }
  }

  close(): void {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }
}

/** 0.5, 1, 2, 4, then every 5 seconds: a node restarts in less than a second. */
export function backoffMs(failures: number): number {
  return Math.min(5_000, 500 * 2 ** failures);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
