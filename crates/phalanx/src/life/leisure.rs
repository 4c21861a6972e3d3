//! Work of a process that takes over, which the one before can wait for: its requests cannot.

use std::thread;

use rustix::process::setpriority_process;

/// Runs what computes for long in a thread of its own, after whatever else wants the processor. Compiling all rules takes a good part of a second, in
/// which requests at the process before would wait for their turn. A thread that has stepped back may not step forward again, so it does nothing
/// else, and starts no other.
pub(crate) fn at_leisure<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("phalanx-prepare".into()).stack_size(STACK_BYTES);
        let stepped_back = move || {
            // On Linux a priority is a thread's. Who may not step back works as fast as ever.
            if let Err(error) = setpriority_process(None, STEP_BACK) {
                tracing::debug!(%error, "the work of a take-over has the priority of requests");
            }
            work()
        };
        match thread.spawn_scoped(scope, stepped_back).map(thread::ScopedJoinHandle::join) {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => std::panic::resume_unwind(Box::new(format!("cannot start a thread: {error}"))),
        }
    })
}

/// Such a thread gets a quarter of what one of a worker gets, where both want all of a processor.
const STEP_BACK: i32 = 5;
/// As a first thread has.
const STACK_BYTES: usize = 8 * 1024 * 1024;
