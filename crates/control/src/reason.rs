//! What may stand in a reason. It goes to the ledger, to other nodes and to screens.

use http::StatusCode;

use crate::error::ApiError;

/// Refuses a reason that is too long, or is not what it looks like.
pub(crate) fn check(reason: &str, bytes_max: usize) -> Result<(), ApiError> {
    if reason.len() > bytes_max {
        return Err(ApiError::bad_request(format!("a reason has at most {bytes_max} bytes")));
    }
    if let Some(c) = reason.chars().find(|c| c.is_control() || turns(*c)) {
        let message = format!(
            "a reason is one line, and has no characters that change how it is shown: leave U+{:04X} out",
            u32::from(c)
        );
        return Err(invalid(message));
    }
    Ok(())
}

/// The same for what nobody does without a reason.
pub(crate) fn needed(reason: &str, bytes_max: usize) -> Result<(), ApiError> {
    if reason.trim().is_empty() {
        return Err(invalid("a change of policy needs a `reason`: why? it stands in the history".to_owned()));
    }
    check(reason, bytes_max)
}

fn invalid(message: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
}

/// Line ends, and the controls of the bidirectional algorithm (UAX #9), which can show a text as another. The joiners are left in: some
/// languages need them.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reason_may_be() {
        for good in ["", "scans", "\u{e4}rger \u{1f600}", "\u{645}\u{6cc}\u{200c}\u{62e}"] {
            assert!(check(good, 100).is_ok(), "{good:?}");
        }
        for bad in ["\0", "a\nb", "\u{1b}[2J", "\u{202e}nab", "\u{2066}x", "\u{200f}", "\u{2028}", "\u{9b}"] {
            let error = check(bad, 100).unwrap_err();
            assert_eq!(
                (error.status, error.problem().code.as_str()),
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid")
            );
        }
        assert_eq!(check("abc", 2).unwrap_err().status, StatusCode::BAD_REQUEST);
        assert!(needed(" ", 100).is_err() && needed("why", 100).is_ok());
    }
}
