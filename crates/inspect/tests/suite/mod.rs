//! Access to third-party test suites, which are used by path and are not part of the project.

#![expect(unreachable_pub, reason = "shared by test files")]

use std::path::PathBuf;

/// A folder below the one that `PHALANX_SHARED` names. Without it the test is skipped, except in CI.
pub fn folder(below: &str) -> Option<PathBuf> {
    match std::env::var_os("PHALANX_SHARED") {
        Some(shared) => Some(PathBuf::from(shared).join(below)),
        None => {
            assert!(std::env::var_os("CI").is_none(), "PHALANX_SHARED must be set in CI");
            println!("skipped: {below} needs PHALANX_SHARED");
            None
        }
    }
}
