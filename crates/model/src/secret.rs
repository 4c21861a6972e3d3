//! Which names say that what they name is a secret: of parameters, header fields, cookies, members of JSON.
//!
//! It errs on the side of secrecy: evidence that reads as masked is a nuisance, a recorded password is an incident.

/// Whether a field of this name is taken to hold a secret. Case, separators and percent-encoding do not hide it: `api_key`, `api-key`, `apiKey`
/// and `%61pikey` are one. It takes no memory.
pub fn is_secret_name(name: &[u8]) -> bool {
    let mut plain = Plain::default();
    let mut rest = name;
    while let Some((&first, next)) = rest.split_first() {
        let decoded = (first == b'%').then(|| next.split_first_chunk::<2>()).flatten();
        let byte = match decoded.and_then(|(hex, after)| Some((from_hex(*hex)?, after))) {
            Some((byte, after)) => {
                rest = after;
                byte
            }
            None => {
                rest = next;
                first
            }
        };
        plain.push(byte);
    }
    plain.is_secret()
}

/// A name in lower case without separators, and where its last word begins (`password` in `user[password]`).
struct Plain {
    bytes: [u8; BYTES_MAX],
    length: usize,
    word: usize,
    /// The byte before was part of no word.
    between: bool,
    /// What had no room any more held a part that makes the name secret.
    found: bool,
}

impl Default for Plain {
    fn default() -> Self {
        Self { bytes: [0; BYTES_MAX], length: 0, word: 0, between: false, found: false }
    }
}

impl Plain {
    fn push(&mut self, byte: u8) {
        if !byte.is_ascii_alphanumeric() {
            self.between = true;
            return;
        }
        if self.length == BYTES_MAX {
            self.make_room();
        }
        if std::mem::take(&mut self.between) {
            self.word = self.length;
        }
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte.to_ascii_lowercase();
            self.length += 1;
        }
    }

    /// Lets go of the beginning, once it was looked at.
    fn make_room(&mut self) {
        self.found |= has_secret_part(&self.bytes);
        self.bytes.copy_within(BYTES_MAX - KEPT.., 0);
        self.length = KEPT;
        self.word = self.word.saturating_sub(BYTES_MAX - KEPT);
    }

    fn is_secret(&self) -> bool {
        let whole = self.bytes.get(..self.length).unwrap_or_default();
        let last = whole.get(self.word..).unwrap_or_default();
        self.found
            || has_secret_part(whole)
            // A session is one, and not what is set about sessions (`session.use_cookies`).
            || whole.ends_with(b"session")
            || SECRET_NAMES.contains(&whole)
            || SECRET_WORDS.iter().any(|word| *word == whole || *word == last)
    }
}

fn from_hex(hex: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(hex[0])? * 16 + digit(hex[1])?).ok()
}

fn has_secret_part(whole: &[u8]) -> bool {
    whole.iter().enumerate().any(|(at, first)| {
        let parts = secret_parts(*first);
        !parts.is_empty()
            && whole.get(at..).is_some_and(|rest| parts.iter().any(|part| rest.starts_with(part)))
    })
}

/// What makes a name secret wherever it stands in it, by its first letter: most letters begin none.
fn secret_parts(first: u8) -> &'static [&'static [u8]] {
    match first {
        b'a' => &[b"apikey", b"accesskey", b"authorization"],
        b'c' => &[b"cookie", b"credential", b"creditcard", b"cardnumber"],
        b'j' => &[b"jwt"],
        b'o' => &[b"otp"],
        // `passw` is the beginning of the word in English, German, and of passwd.
        b'p' => &[b"passw", b"passphrase", b"pwd", b"privatekey"],
        b's' => &[b"secret", b"sessionid", b"sessid", b"signature", b"securitycode"],
        b't' => &[b"token"],
        _ => &[],
    }
}

/// A name that is, or ends in, one of these words is secret.
const SECRET_WORDS: &[&[u8]] = &[
    b"pass",
    b"pw",
    b"pin",
    b"totp",
    b"mfa",
    b"auth",
    b"sid",
    b"cvv",
    b"cvc",
    b"ssn",
    b"iban",
    b"csrf",
    b"xsrf",
    b"assertion",
    b"samlresponse",
    b"sig",
    b"passcode",
];
/// A name that is one of these is secret; as a part of others they are common words.
const SECRET_NAMES: &[&[u8]] = &[b"key", b"code", b"ticket"];

const BYTES_MAX: usize = 96;
/// More than the longest of the words and parts, so that none is missed or made up at the seam.
const KEPT: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_by_their_meaning() {
        for name in [
            "Authorization",
            "X-Api-Key",
            "apiKey",
            "user[pass]",
            "json.login.pwd",
            "PHPSESSID",
            "access_token",
            "Set-Cookie",
            "p%61ssword",
            "user%5Bpass%77ord%5D",
            "jsessionid",
            "key",
            "code",
            "cvv",
            "user-pin",
            "SAMLResponse",
            "session",
            "my_session",
            "session_id",
            "Passwort",
            "otp",
        ] {
            assert!(is_secret_name(name.as_bytes()), "{name}");
        }
        for name in [
            "q",
            "passenger",
            "author",
            "page",
            "spinning",
            "comment",
            "",
            "%",
            "%4",
            "country_code",
            "keyword",
            "session.referer_check",
            "passport",
            "category",
            "%zz",
        ] {
            assert!(!is_secret_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn all_of_a_long_name_counts() {
        let long = "a.".repeat(500);
        assert!(is_secret_name(format!("{long}pin").as_bytes()));
        assert!(is_secret_name(format!("{long}[password]").as_bytes()));
        assert!(!is_secret_name(format!("{long}pint").as_bytes()));
        assert!(is_secret_name(format!("{long}api_key").as_bytes()));
        assert!(is_secret_name(format!("password{long}").as_bytes()));
        for before in 0..200 {
            assert!(
                is_secret_name(format!("{}_privateKey_{long}", "x".repeat(before)).as_bytes()),
                "{before}"
            );
        }
    }
}
