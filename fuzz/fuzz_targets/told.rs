//! What another node tells beside counts, and what was kept over a restart: signals, incidents and rulings. Each is read whole or not at all, and can be told again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_learn::{Docket, IncidentId, IncidentsTold, Kept, Ruling, SignalsTold};

fuzz_target!(|data: &[u8]| {
    let mut docket = Docket::default();
    if let Some(told) = SignalsTold::from_bytes(data) {
        assert_eq!(SignalsTold::from_bytes(&told.to_bytes()), Some(told.clone()));
        for (signal, evidence) in &told.signals {
            docket.add(signal, *evidence, signal.at_ms);
        }
    }
    if let Some(told) = IncidentsTold::from_bytes(data) {
        for message in told.to_messages() {
            assert!(IncidentsTold::from_bytes(&message).is_some());
        }
        let now_ms = told.incidents.first().map_or(0, |incident| incident.changed_ms);
        docket.hear(1, true, told.token, told.incidents, now_ms);
        assert!(docket.tick(true, now_ms).len() <= 1_024);
    }
    if let Some(rulings) = Ruling::from_bytes(data) {
        assert_eq!(Ruling::from_bytes(&Ruling::to_bytes(&rulings)).as_deref(), Some(&rulings[..]));
        rulings.iter().for_each(|ruling| docket.rule(ruling, 1));
    }
    if let Some(kept) = Kept::from_bytes(data) {
        let bytes = kept.to_bytes();
        assert_eq!(Kept::from_bytes(&bytes).map(|kept| kept.to_bytes()), Some(bytes));
        let (now_ms, names) =
            (kept.open.first().map_or(0, |incident| incident.changed_ms), kept.names.clone());
        docket.recall(kept, now_ms);
        // Nodes are numbers in memory, and places among names where they are written.
        let again = Kept { names, ..docket.keep(0) }.to_bytes();
        assert!(Kept::from_bytes(&again).is_some());
    }
    if let Some(id) = std::str::from_utf8(data).ok().and_then(IncidentId::of_reason) {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
});
