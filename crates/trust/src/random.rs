//! Random bytes from the operating system, by way of aws-lc.

/// `N` random bytes. Ends the process if the system has none: predictable ids, tickets and nonces are worse than a stop.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        std::process::abort();
    }
    bytes
}

/// A random number.
pub fn random_u64() -> u64 {
    u64::from_be_bytes(random_bytes())
}
