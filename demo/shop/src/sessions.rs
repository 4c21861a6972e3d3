//! Who is logged in and what lies in whose cart. In memory, limited, oldest out first.

use std::collections::{BTreeMap, HashMap, VecDeque};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use data_encoding::HEXLOWER;
use parking_lot::Mutex;

/// One visitor's state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Session {
    /// The customer who is logged in.
    pub(crate) customer: Option<i64>,
    /// Product number to quantity.
    pub(crate) cart: BTreeMap<i64, u32>,
}

/// All visitors' states by the random value of their cookie.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<String, Session>,
    oldest_first: VecDeque<String>,
}

impl Sessions {
    /// The session of this id, or an empty one.
    pub(crate) fn read(&self, id: Option<&str>) -> Session {
        id.and_then(|id| self.inner.lock().by_id.get(id).cloned()).unwrap_or_default()
    }

    /// Changes the session of this id, or of a new one; returns the id.
    pub(crate) fn change(&self, id: Option<&str>, change: impl FnOnce(&mut Session)) -> String {
        let mut inner = self.inner.lock();
        let id = match id {
            Some(id) if inner.by_id.contains_key(id) => id.to_owned(),
            _ => inner.add(),
        };
        if let Some(session) = inner.by_id.get_mut(&id) {
            change(session);
        }
        id
    }
}

impl Inner {
    fn add(&mut self) -> String {
        if self.oldest_first.len() >= SESSIONS_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.by_id.remove(&oldest);
        }
        let mut random = [0u8; 16];
        // Without entropy the id is all zero: one shared demonstration session, and nothing worse.
        let _ = SystemRandom::new().fill(&mut random);
        let id = HEXLOWER.encode(&random);
        self.by_id.insert(id.clone(), Session::default());
        self.oldest_first.push_back(id.clone());
        id
    }
}

/// More visitors than a demonstration has.
const SESSIONS_MAX: usize = 4096;
