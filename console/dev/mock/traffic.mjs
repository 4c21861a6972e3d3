// Invented traffic over time: a day's tide with an attack in it, the same for the same time whenever it is asked.

const KEYS = {
  action: [['allow', 0.955], ['deny', 0.028], ['challenge', 0.008], ['throttle', 0.006], ['observe', 0.003]],
  app: [['shop', 0.62], ['wiki', 0.27], ['api', 0.11]],
  rule: [['942100', 0.31], ['941110', 0.22], ['930120', 0.17], ['932160', 0.12], ['944150', 0.08], ['920420', 0.06], ['0', 0.04]],
  class: [['detection_high', 0.6], ['detection_medium', 0.2], ['protocol', 0.15], ['policy', 0.05]],
  country: [['DE', 0.34], ['NL', 0.2], ['US', 0.17], ['FR', 0.09], ['BR', 0.07], ['SG', 0.05], ['unknown', 0.08]],
  status: [['2xx', 0.86], ['3xx', 0.07], ['4xx', 0.06], ['5xx', 0.01]],
  node: [['fra/fra-1', 0.45], ['iad/iad-1', 0.35], ['syd/syd-1', 0.2]],
  site: [['fra', 0.45], ['iad', 0.35], ['syd', 0.2]],
};
const SAID = { 942100: 'SQL Injection Attack Detected via libinjection', 941110: 'XSS Filter - Category 1: Script Tag Vector', 930120: 'OS File Access Attempt', 932160: 'Remote Command Execution: Unix Shell Code Found', 944150: 'Potential Remote Command Execution: Log4j / Log4shell' };
const ACTORS = [
  ['203.0.113.66', 'NL', 64496], ['198.51.100.23', 'US', 64500], ['203.0.113.9', 'BR', 64501], ['2001:db8:51:4::a1', 'DE', 64511], ['192.0.2.0/24', 'SG', 64499], ['198.51.100.140', null, null],
];

/** `begins`: since when there are counts; before it there are none. */
export function traffic(query, scenario, begins = null) {
  const by = query.get('by') ?? 'action';
  const refused = query.get('count') === 'refused';
  const points = Number(query.get('points') ?? 120);
  const [from, to] = [Number(query.get('from_ms')), Number(query.get('to_ms'))];
  const unit = to - from > 48 * 3_600_000 ? 3_600_000 : 60_000;
  const step_ms = Math.max(unit, Math.ceil((to - from) / points / unit) * unit);
  const from_ms = Math.floor(from / step_ms) * step_ms;
  const to_ms = Math.ceil(to / step_ms) * step_ms;
  const count = Math.round((to_ms - from_ms) / step_ms);
  const quiet = scenario === 'quiet';
  const course = (share, seed, attack) =>
    Array.from({ length: count }, (_, at) => (quiet || from_ms + at * step_ms < (begins ?? 0) ? 0 : Math.round(share * rate(from_ms + at * step_ms, seed, attack) * (step_ms / 1000))));
  const series = KEYS[by].map(([key, share], seed) => {
    const bad = by === 'rule' || refused || (by === 'action' && key !== 'allow');
    const all = course(by === 'rule' || refused ? share * 0.028 : share, seed, bad);
    return { key, total: all.reduce((a, b) => a + b, 0), points: all, ...(by === 'rule' && SAID[key] && { words: SAID[key] }) };
  });
  series.sort((a, b) => b.total - a.total);
  const actions = KEYS.action.map(([key, share], seed) => [key, course(share, seed, key !== 'allow').reduce((a, b) => a + b, 0)]);
  const sums = Object.fromEntries(actions);
  return {
    from_ms, to_ms, step_ms, begins_ms: begins, series, others: { total: 0, points: new Array(count).fill(0) },
    totals: { requests: actions.reduce((a, [, n]) => a + n, 0), refused: sums.deny, challenged: sums.challenge, throttled: sums.throttle, observed: sums.observe, errors: Math.round(sums.allow / 900), dropped: 0 },
    answered: [{ site: 'fra', node: 'fra-1' }, { site: 'iad', node: 'iad-1' }],
    silent: scenario === 'degraded' ? [{ site: 'syd', node: 'syd-1' }] : [],
  };
}

export function actors(query, now, scenario, begins = null) {
  const { from_ms, to_ms, step_ms, series } = traffic(new URLSearchParams({ ...Object.fromEntries(query), by: 'action', count: 'refused' }), scenario, begins);
  const refused = series.find((one) => one.key === 'deny');
  const clients = ACTORS.map(([client, country, asn], at) => {
    const points = refused.points.map((point) => Math.ceil((point * (6 - at)) / 24));
    return { client, country, asn, refused: points.reduce((a, b) => a + b, 0), points, last_ms: now - at * 41_000, rules: [942100, 941110, 930120, 932160].slice(0, 1 + (at % 4)) };
  });
  return { from_ms, to_ms, step_ms, clients: clients.filter((one) => one.refused > 0), answered: [], silent: [] };
}

/** Requests a second at a time: a tide over the day, noise that stays the same, and an attack of an hour each day. */
function rate(at, seed, attack) {
  const hour = (at / 3_600_000) % 24;
  const tide = 26 + 16 * Math.sin(((hour - 9) / 24) * 2 * Math.PI);
  const noise = 0.8 + 0.4 * hash(Math.floor(at / 60_000) + seed * 7_919);
  const burst = attack && at % 3_600_000 > 2_000_000 && at % 3_600_000 < 2_700_000 ? 5 : 1;
  return Math.max(1, tide) * noise * burst;
}

function hash(n) {
  let t = Math.imul((n | 0) ^ 0x9e3779b9, 0x85ebca6b);
  t ^= t >>> 13;
  return ((Math.imul(t, 0xc2b2ae35) >>> 0) % 1000) / 1000;
}
