// A world of ten thousand of everything, with the names that break layouts.

const ROWS = 10_000;
const LONG = 'unbroken'.repeat(25);
const PATH = `/${'very-long-directory-name/'.repeat(40)}index.php?q=${'a%20'.repeat(60)}`;
const NAMES = ['ann', LONG, 'مرحبا بالعالم من فريق الأمن', '👩‍🚒🧯 brigade 🚒', 'O\u2019Brien-Ångström', 'עברית then latin', '測試用戶名稱'];
const ADDRESSES = ['203.0.113.7', '2001:db8:ffff:eeee:dddd:cccc:bbbb:aaaa', 'fe80::1'];
const pick = (list, at) => list[at % list.length];

/** Fills a world that has just begun. */
export function fill(world, now) {
  people(world.people, now);
  for (let at = 0; at < ROWS; at++) {
    const ip = at % 3 === 1 ? `2001:db8:${(at >> 8).toString(16)}:${(at & 255).toString(16)}:dddd:cccc:bbbb:aaaa` : `198.${18 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}`;
    world.decide({ ip, forMs: 86_400_000 + at, at: now - at * 1000, node: { site: 'fra', node: 'fra-1' }, role: 'operator', reason: pick(NAMES, at), silent: true });
  }
  const [row] = world.incidents.all;
  world.incidents.all = Array.from({ length: ROWS }, (_, at) => ({
    ...row, id: at < 3 ? world.incidents.all[at].id : `V${at}`, state: at % 2 ? 'open' : 'closed', summary: `${pick(NAMES, at)}: ${at} names were tried at ${PATH}`, nodes: [`${LONG}/${LONG}`], changed_at_ms: now - at * 60_000,
  }));
  const [list] = world.fleet.lists;
  world.fleet.lists = Array.from({ length: ROWS }, (_, at) => ({ ...list, name: at % 5 === 0 ? `list-${at}-${'x'.repeat(50)}` : `list-${at}`, reason: pick(NAMES, at), prefixes: at }));
  const [exclusion] = world.policy.exclusions(now);
  const exclusions = Array.from({ length: ROWS }, (_, at) => ({ ...exclusion, app: pick(NAMES, at), route: PATH, target: `ARGS:${pick(NAMES, at + 1)}`, owner: pick(NAMES, at + 2), reason: pick(NAMES, at + 3), line: at + 1, expires_ms: now + at * 3_600_000 }));
  world.policy.exclusions = () => exclusions;
  const [record] = world.records.values();
  for (let at = 0; at < ROWS; at++) {
    const id = `01V${String(at).padStart(23, '0')}`;
    const row = { ...record.row, id, at_ms: now - at * 1000, client: pick(ADDRESSES, at), target: at % 2 ? PATH : `/${pick(NAMES, at)}`, host: LONG, app: pick(NAMES, at), site: 'fra', node: 'fra-1' };
    world.records.set(id, { row, full: { ...record.full, access: { ...record.full.access, id, client: row.client, target: row.target, host: LONG, user_agent: LONG, referer: PATH, app: row.app } } });
  }
  world.nodes = Array.from({ length: 50 }, (_, at) => ({ site: at % 7 === 6 ? LONG.slice(0, 63) : `site-${at % 7}`, node: at % 9 === 8 ? LONG.slice(0, 63) : `edge-${at}`, me: at === 0 }));
}

function people(people, now) {
  const [ann] = people.operators;
  people.operators = [ann, ...Array.from({ length: ROWS }, (_, at) => ({ ...ann, name: `${pick(NAMES, at)} ${at}`, role: 'viewer', apps: at % 4 ? [] : [LONG], created_by: pick(NAMES, at), tokens: [] }))];
  people.sessions = Array.from({ length: ROWS }, (_, at) => ({ id: `s${at}`, operator: pick(NAMES, at), opened_at_ms: now - at * 1000, seen_at_ms: now - at, me: at === 0 }));
  for (let at = 0; at < ROWS; at++) people.note('operator_action', `operator ${pick(NAMES, at)}`, `ban ${pick(ADDRESSES, at)}: ${pick(NAMES, at)} ${PATH}`, now - (ROWS - at) * 1000);
}
