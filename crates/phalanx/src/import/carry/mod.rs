//! From another proxy's configuration to ours, without touching a disk: text in, text and a list out.
//!
//! INVARIANT: total and bounded. Whatever the text is, there is an answer; what cannot be carried is on the list with its
//! file and line, and nothing is left out in silence but what has no meaning here.

mod emit;
pub(crate) mod haproxy;
pub(crate) mod nginx;
mod note;
mod site;
mod values;

pub(crate) use emit::{Written, write};
pub(crate) use note::{Note, Notes};
pub(crate) use site::Site;

/// Reads what a configuration includes.
pub(crate) trait Files {
    /// The files of a pattern as it is written, with their names, in order.
    ///
    /// # Errors
    /// A sentence that says why there are none.
    fn read(&mut self, pattern: &str) -> Result<Vec<(String, String)>, String>;
}

/// What was made of a configuration.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) site: Site,
    pub(crate) notes: Notes,
}

/// Bytes of all files together: hosters with thousands of sites have some 10 MiB.
pub(crate) const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Files, with all that are included.
pub(crate) const FILES_MAX: usize = 4_096;
/// Blocks within blocks, and files within files.
pub(crate) const DEPTH_MAX: usize = 32;
