//! What honest visitors do, with the words that make poor protections stumble.

use std::net::SocketAddr;

use anyhow::bail;

use super::http::{Reply, Shot, encode};

/// One honest errand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Errand {
    pub(super) name: &'static str,
    /// Requests with the status and, where it matters, a piece of the page that must come back.
    pub(super) steps: fn() -> Vec<Step>,
}

/// One request of an errand.
#[derive(Debug, Clone)]
pub(super) struct Step {
    shot: Shot,
    status: u16,
    holds: &'static str,
}

/// All errands.
pub(super) const ERRANDS: [Errand; 6] = [
    Errand {
        name: "look around",
        steps: || {
            let targets =
                ["/", "/products", "/product?id=3", "/pictures/pack.svg", "/assets/shop.css", "/cart"];
            targets.iter().map(|target| step(Shot::get(*target), 200, "")).collect()
        },
    },
    Errand {
        name: "search for women's, for a select few, for a union jack",
        steps: || {
            vec![
                step(search("women's"), 200, "Trail Pack 24"),
                step(search("select your favourite from the table"), 200, "0 found"),
                step(search("union jack"), 200, "Union Jack Tea Towel"),
                step(search("O'Neill & sons -- where else?"), 200, "0 found"),
            ]
        },
    },
    Errand {
        name: "write a review with code and SQL words in it",
        steps: || {
            let text = "I keep it by the terminal: SELECT name FROM shelf WHERE price < 20 ORDER BY name; \
                        then `for i in 1..10 { drop(cup); }` -- it survived. Don't tell O'Neill & co.";
            let form = [("product", "2"), ("author", "Tom O'Neill"), ("stars", "5"), ("text", text)];
            vec![
                step(Shot::post("/review", &form), 303, ""),
                step(Shot::get("/product?id=2"), 200, "SELECT name FROM shelf WHERE price < 20"),
            ]
        },
    },
    Errand {
        name: "log in, mistype the password first",
        steps: || {
            let login =
                |password| Shot::post("/login", &[("email", "kenji@example.com"), ("password", password)]);
            vec![step(login("blue-bicylce-21"), 401, ""), step(login("blue-bicycle-21"), 303, "")]
        },
    },
    Errand {
        name: "put two kettles into the cart",
        steps: || vec![step(Shot::post("/cart/add", &[("product", "8"), ("quantity", "2")]), 303, "")],
    },
    Errand {
        name: "download a care sheet",
        steps: || vec![step(Shot::get("/download?file=manuals/kettle.txt"), 200, "1.6 litres")],
    },
];

impl Step {
    /// The request in the name of a client.
    pub(super) fn shot(&self) -> Shot {
        self.shot.clone()
    }

    /// Sends it and checks what comes back.
    pub(super) async fn check(&self, shot: &Shot, at: SocketAddr) -> anyhow::Result<Reply> {
        let reply = shot.send(at).await?;
        if reply.status() != self.status || !reply.text().contains(self.holds) {
            bail!("{} {}: {} {}", shot.method, shot.target, reply.status(), reply.id());
        }
        Ok(reply)
    }
}

fn search(words: &str) -> Shot {
    Shot::get(format!("/search?q={}", encode(words)))
}

fn step(shot: Shot, status: u16, holds: &'static str) -> Step {
    Step { shot, status, holds }
}
