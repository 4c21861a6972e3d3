//! Rights of the user that the process runs as, given up before the first byte of a stranger arrives.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Gives up every capability but the one to listen on ports below 1024, of this thread and of all that it starts. Returns what is to be said
/// about it in the status, and whether that is something to mend.
///
/// A process of root keeps its user: its files are root's. Without capabilities root has the rights of their owner, and no others.
pub(crate) fn give_up() -> (String, bool) {
    let user = rustix::process::geteuid();
    let (said, is_fault) = match reduce() {
        Ok(kept) if kept.is_empty() => ("no capabilities".to_owned(), false),
        Ok(_) => ("the capability to listen on ports below 1024 and no other".to_owned(), false),
        Err(error) => (format!("capabilities that cannot be given up ({error})"), true),
    };
    match user.is_root() {
        true => (format!("root, with {said}; better is a user of its own"), is_fault),
        false => (format!("user {}, with {said}", user.as_raw()), is_fault),
    }
}

fn reduce() -> rustix::io::Result<CapabilitySet> {
    let own = capabilities(None)?;
    let kept = own.permitted & CapabilitySet::NET_BIND_SERVICE;
    // A service manager that gave no more may forbid the call.
    if own.permitted != kept {
        let inheritable = kept & own.inheritable;
        set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?;
    }
    Ok(kept)
}
