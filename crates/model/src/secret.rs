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
        // Letters beyond ASCII are of the word.
        if byte.is_ascii() && !byte.is_ascii_alphanumeric() {
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
            || whole.ends_with(b"pass") && !PASSES.iter().any(|word| whole.ends_with(word))
            || SECRET_NAMES.contains(&whole)
            // Of several they are numbered: `pass1`, `pw2`.
            || SECRET_WORDS.iter().any(|word| [whole, last].map(unnumbered).contains(word))
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

fn unnumbered(word: &[u8]) -> &[u8] {
    let end = word.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
    word.get(..end).unwrap_or_default()
}

/// What makes a name secret wherever it stands in it, by its first byte: most begin none. Of other languages it is how their word for
/// password is written, with its letters and, where people do, in ASCII.
fn secret_parts(first: u8) -> &'static [&'static [u8]] {
    match first {
        b'a' => &[b"apikey", b"accesskey", b"authkey", b"authorization", b"adgangskode"],
        b'c' => {
            const {
                &[
                    b"cookie",
                    b"credential",
                    b"creditcard",
                    b"cardnum",
                    b"ccnum",
                    b"contrasena",
                    "contraseña".as_bytes(),
                ]
            }
        }
        b'e' => &[b"encryptionkey"],
        b'h' => const { &[b"heslo", b"haslo", "hasło".as_bytes()] },
        b'j' => const { &[b"jwt", b"jelszo", "jelszó".as_bytes()] },
        b'k' => &[b"kennwort", b"kodeord"],
        b'l' => const { &[b"losenord", "lösenord".as_bytes(), b"lozinka"] },
        b'm' => &[b"motdepasse", b"masterkey"],
        b'o' => &[b"otp"],
        // `passw` is the beginning of the word in English, German, and of passwd.
        b'p' => &[b"passw", b"passord", b"passphrase", b"pwd", b"privatekey", b"pincode"],
        b's' => &[
            b"secret",
            b"sessionid",
            b"sessid",
            b"sessionkey",
            b"signature",
            b"signingkey",
            b"sshkey",
            b"securitycode",
            b"socialsecurity",
            b"senha",
            b"salasana",
            b"sifre",
        ],
        b't' => &[b"token"],
        b'w' => &[b"wachtwoord"],
        // The first bytes of letters beyond ASCII.
        0xc5 => const { &["şifre".as_bytes()] },
        0xd0 => const { &["пароль".as_bytes(), "Пароль".as_bytes()] },
        0xe3 => const { &["パスワード".as_bytes()] },
        0xe5 => const { &["密码".as_bytes(), "密碼".as_bytes(), "口令".as_bytes()] },
        0xeb => const { &["비밀번호".as_bytes()] },
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
    b"nonce",
    b"wpnonce",
    b"mdp",
    b"cardno",
];
/// Common words that end in `pass` and are no password.
const PASSES: &[&[u8]] = &[b"bypass", b"compass", b"trespass"];
/// A name that is one of these is secret; as a part of others they are common words.
const SECRET_NAMES: &[&[u8]] = &[b"key", b"code", b"ticket", b"clave", b"parola"];

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
            "pw2",
            "pass1",
            "cvv2",
            "dbpass",
            "ccnum",
            "card_no",
            "_wpnonce",
            "mot_de_passe",
            "contraseña",
            "Contrase%C3%B1a",
            "nuevaContrasena",
            "wachtwoord",
            "hasło",
            "%D0%BF%D0%B0%D1%80%D0%BE%D0%BB%D1%8C",
            "密码",
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
            "bypass",
            "compass",
            "page2",
            "discard_notes",
            "parola_chiave",
            "größe",
            "密度",
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
