// Invented incidents, one of which asks an operator something.

export class Incidents {
  constructor(world, now) {
    this.world = world;
    this.all = world.scenario === 'quiet' ? [] : made(now);
  }

  list() {
    const open = (one) => (one.state === 'open' ? 0 : 1);
    return [...this.all].sort((a, b) => open(a) - open(b) || b.changed_at_ms - a.changed_at_ms).map(({ findings, parts, targets, evidence, playbooks, decisions, ...row }) => row);
  }

  show(id) {
    const found = this.find(id);
    if (!found) return null;
    const decisions = found.undone_at_ms ? [] : this.world.live().filter((d) => d.kind === 'ban').slice(0, found.state === 'open' ? 3 : 0);
    return { ...found, decisions, decisions_live: decisions.length, evidence: [...this.world.records.keys()].slice(-6) };
  }

  close(id) {
    const found = this.find(id);
    if (found) Object.assign(found, { state: 'closed', closed_at_ms: Date.now() });
    return Boolean(found);
  }

  undo(id) {
    const found = this.show(id);
    if (!found) return null;
    Object.assign(this.find(id), { undone_at_ms: Date.now(), decisions_live: 0 });
    for (const decision of found.decisions) this.world.withdraw(decision.id, `incident ${id} was undone`);
    return { id, withdrawn: found.decisions.map((d) => d.actor), left: [] };
  }

  answer(id, step, yes) {
    const run = this.find(id)?.playbooks.find((one) => one.asks?.step === step);
    if (!run) return false;
    run.asks = null;
    const done = run.steps.find((one) => one.step === step);
    Object.assign(done, { state: yes ? 'done' : 'declined', ended_at_ms: Date.now(), note: `answered ${yes ? 'yes' : 'no'} by an operator` });
    Object.assign(run, { state: yes ? 'completed' : 'declined', ended_at_ms: Date.now() });
    return true;
  }

  find(id) {
    return this.all.find((one) => one.id === id);
  }
}

function made(now) {
  const row = (id, more) => ({
    id, state: 'open', severity: 'medium', stage: 'initial_access', techniques: ['T1190'], detectors: ['scan'], summary: '', opened_at_ms: now - 900_000, changed_at_ms: now - 30_000,
    nodes: ['fra/fra-1'], findings_count: 1, decisions_live: 0, parts: [], targets: ['shop'], findings: [], evidence: [], playbooks: [], closed_at_ms: null, undone_at_ms: null, ...more,
  });
  const finding = (more) => ({
    detector: 'credential_stuffing', technique: 'T1110.004', subject: { kind: 'address', value: '203.0.113.66', name: null }, reason: '', events: 12, confidence: 'high', decisive: true, first_at_ms: now - 800_000, last_at_ms: now - 60_000, ...more,
  });
  const stuffing = row('5F2C81A07BE3D', {
    severity: 'high', stage: 'credential_access', techniques: ['T1110.004'], detectors: ['credential_stuffing', 'spread'], nodes: ['fra/fra-1', 'iad/iad-1', 'syd/syd-1'], findings_count: 4, decisions_live: 3,
    summary: '214 names were tried at shop/login from 37 addresses of one software within 12 minutes, 209 of them in vain', targets: ['shop/login'],
    findings: [
      finding({ reason: '61 different names in 4 minutes, 60 refused by the app' }),
      finding({ subject: { kind: 'address', value: '198.51.100.23', name: null }, reason: '48 different names in 5 minutes', first_at_ms: now - 760_000, events: 48 }),
      finding({ detector: 'spread', technique: null, subject: { kind: 'software', value: '8c1f00aa51d2e37b', name: 't13d1516h2_8daaf6152771_02713d6af862' }, reason: '37 addresses greet alike and try the same names', first_at_ms: now - 610_000, events: 37, confidence: 'medium' }),
      finding({ subject: { kind: 'route', value: '1f00aa51d2e37b8c', name: 'shop/login' }, reason: 'failed logins are 9 times as many as at this hour of other days', first_at_ms: now - 590_000, decisive: false, events: 209 }),
    ],
    playbooks: [{
      run: 'contain-stuffing-2/5F2C81A07BE3D', playbook: 'contain-stuffing', version: 2, incident: '5F2C81A07BE3D', state: 'running', began_at_ms: now - 580_000, ended_at_ms: null,
      asks: { step: 'challenge-all', question: 'Challenge every client of shop/login for an hour?', until_ms: now + 480_000, otherwise: 'no' },
      steps: [
        { step: 'ban-sources', does: 'countermeasure', state: 'done', began_at_ms: now - 580_000, ended_at_ms: now - 579_000, note: '3 addresses are banned for 20 minutes' },
        { step: 'tell', does: 'notify', state: 'done', began_at_ms: now - 578_000, ended_at_ms: now - 577_000, note: 'sent to on-call' },
        { step: 'challenge-all', does: 'ask', state: 'begun', began_at_ms: now - 120_000, ended_at_ms: null, note: '' },
      ],
    }],
  });
  const closed = Array.from({ length: 9 }, (_, at) =>
    row(`77AA${at}C81A07B${at}`, { state: 'closed', severity: ['low', 'medium', 'high'][at % 3], detectors: ['scan'], summary: `One address asked for ${40 + at * 7} paths that do not exist, among them /wp-login.php and /.env`, opened_at_ms: now - (at + 3) * 5_400_000, changed_at_ms: now - (at + 3) * 5_000_000, undone_at_ms: at === 2 ? now - 9_000_000 : null }),
  );
  return [
    stuffing,
    row('C0FFEE0123456', { severity: 'medium', stage: 'discovery', techniques: ['T1595.002'], summary: 'One address asked for 112 paths that do not exist, then for <script>alert(1)</script>', findings: [finding({ detector: 'scan', technique: 'T1595.002', reason: '112 paths, 110 not found', subject: { kind: 'address', value: '192.0.2.77', name: null } })], findings_count: 1 }),
    ...closed,
  ];
}
