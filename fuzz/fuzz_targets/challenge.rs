//! What a client says where challenges are answered: whatever it is, nobody is led to another host, and nobody passes without the key.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use phalanx_edge::challenge::answer::Said;
use phalanx_edge::challenge::sealed::{Bound, Pass, Task};
use phalanx_trust::PassKeys;

static KEYS: LazyLock<PassKeys> = LazyLock::new(PassKeys::random);

fuzz_target!(|data: &[u8]| {
    let said = Said::read(data);
    assert!(said.to.starts_with(b"/") && !said.to.starts_with(b"//"));
    assert!(said.to.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\'));
    let bound = Bound { app: b"a", agent: b"b", ciphers: b"" };
    for text in [said.task, said.answer, data] {
        assert_eq!(Task::open(text, &KEYS, &bound), None);
        assert_eq!(Pass::open(text, &KEYS, &bound), None);
    }
    // A task that asks for nothing is solved by any answer that is one.
    let task = Task { issued_ms: 0, bits: 0, wait_s: 0, id: 0 };
    let is_answer = (1..=20).contains(&said.answer.len());
    assert_eq!(task.is_solved_by(said.task, said.answer), is_answer);
});
