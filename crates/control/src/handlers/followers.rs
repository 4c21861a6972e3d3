//! Those who keep a git branch and the fleet's policy in step, as they tell of themselves.
//!
//! The node runs no git and believes nothing of it: what is told here is shown to people and decides nothing. It is kept in memory; a
//! follower tells it anew with each look.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use http::StatusCode;
use parking_lot::Mutex;

use crate::api::{PolicyFollower, PolicyFollowing};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::paging::Page;
use crate::router::Control;

/// What was told, by who told it and what he follows.
#[derive(Debug, Default)]
pub(crate) struct Followers(Mutex<BTreeMap<(String, String), PolicyFollower>>);

impl Followers {
    /// All that are remembered.
    pub(crate) fn list(&self, now_ms: u64) -> Vec<PolicyFollower> {
        let mut known = self.0.lock();
        known.retain(|_, one| now_ms.saturating_sub(one.at_ms) < FORGOTTEN_AFTER_MS);
        let now = |one: &PolicyFollower| PolicyFollower { silent: is_silent(one, now_ms), ..one.clone() };
        known.values().map(now).collect()
    }

    fn hear(&self, by: String, said: PolicyFollowing, now_ms: u64) {
        let mut known = self.0.lock();
        let key = (by.clone(), said.name.clone());
        let before = known.get(&key).and_then(|one| one.well_at_ms);
        let well_at_ms = if said.state.is_well() { Some(now_ms) } else { before };
        known.insert(key, PolicyFollower { by, said, at_ms: now_ms, well_at_ms, silent: false });
        if known.len() > FOLLOWERS_MAX {
            let oldest = known.iter().min_by_key(|(_, one)| one.at_ms).map(|(key, _)| key.clone());
            oldest.and_then(|key| known.remove(&key));
        }
    }
}

fn is_silent(one: &PolicyFollower, now_ms: u64) -> bool {
    let every = one.said.every_ms.map(|every| every.saturating_mul(3).max(SILENT_AFTER_MS));
    every.is_some_and(|every| now_ms.saturating_sub(one.at_ms) > every)
}

/// `GET /api/v1/policy/followers`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<PolicyFollower>>, ApiError> {
    let rows = control.followers.list(control.now_ms());
    Ok(Json(page.of(rows, |one| format!("{}/{}", one.by, one.said.name))?))
}

/// `POST /api/v1/policy/followers`
pub(crate) async fn tell(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<PolicyFollowing>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let Json(said) = body?;
    let lengths = [
        ("name", said.name.len(), NAME_BYTES_MAX),
        ("words", said.words.len(), WORDS_BYTES_MAX),
        ("commit", said.commit.as_ref().map_or(0, String::len), COMMIT_BYTES_MAX),
    ];
    for (field, bytes, most) in lengths {
        if bytes > most {
            return Err(ApiError::bad_request(format!("{field} has at most {most} bytes")));
        }
    }
    control.followers.hear(who.author(), said, control.now_ms());
    Ok(StatusCode::NO_CONTENT)
}

/// A fleet follows one branch, or a few of them while it moves.
const FOLLOWERS_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 512;
const WORDS_BYTES_MAX: usize = 4_096;
const COMMIT_BYTES_MAX: usize = 64;
/// A look may take as long as a large policy lets it.
const SILENT_AFTER_MS: u64 = 5 * 60_000;
/// Who is gone for a week is not coming back.
const FORGOTTEN_AFTER_MS: u64 = 7 * 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PolicyFollowState;

    fn said(name: &str, state: PolicyFollowState) -> PolicyFollowing {
        PolicyFollowing {
            name: name.to_owned(),
            every_ms: Some(10_000),
            state,
            words: "why\nand what to do".to_owned(),
            commit: None,
            version: 3,
            behind: 0,
        }
    }

    #[test]
    fn who_complains_or_is_not_heard_any_more_is_told_and_at_last_forgotten() {
        let followers = Followers::default();
        followers.hear("git".into(), said("main", PolicyFollowState::InStep), 1_000);
        assert_eq!(followers.list(2_000)[0].complaint(), None);
        followers.hear("git".into(), said("main", PolicyFollowState::Conflict), 5_000);
        let one = followers.list(6_000).remove(0);
        assert_eq!(one.well_at_ms, Some(1_000));
        assert_eq!(one.complaint().unwrap(), "`phalanx policy follow`, main: both moved: why");
        let later = followers.list(5_001 + SILENT_AFTER_MS).remove(0);
        assert!(later.silent && later.complaint().unwrap().contains("is not heard any more"));
        assert_eq!(followers.list(5_000 + FORGOTTEN_AFTER_MS), []);
    }

    #[test]
    fn nobody_fills_the_table() {
        let followers = Followers::default();
        for number in 0..20 {
            followers.hear("git".into(), said(&number.to_string(), PolicyFollowState::InStep), number);
        }
        let names: Vec<String> = followers.list(20).into_iter().map(|one| one.said.name).collect();
        assert_eq!(names.len(), FOLLOWERS_MAX);
        assert!(names.contains(&"19".to_owned()) && !names.contains(&"11".to_owned()), "{names:?}");
    }
}
