//! Each hole is real: the attack succeeds when it is sent to the shop directly. And honest visitors get what they came for.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test may stop at the first surprise")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Shop {
    process: Child,
    address: String,
}

impl Shop {
    fn start() -> Self {
        let mut process =
            Command::new(env!("CARGO_BIN_EXE_phalanx-demo-shop")).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { process, address }
    }

    fn get(&self, target: &str) -> String {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address))
    }

    fn get_with(&self, target: &str, field: &str) -> String {
        self.send(&format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\n{field}\r\nConnection: close\r\n\r\n",
            self.address
        ))
    }

    fn post(&self, target: &str, form: &str) -> String {
        self.send(&format!(
            "POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{form}",
            self.address,
            form.len()
        ))
    }

    fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Asked rather than killed, so that it removes its temporary folder.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

fn status(reply: &str) -> u16 {
    reply.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Counts the SHA-256 values in a page.
fn hashes(reply: &str) -> usize {
    reply.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64).count()
}

fn session(reply: &str) -> &str {
    let start = reply.find("shop_session=").unwrap();
    reply[start..].split(';').next().unwrap()
}

#[test]
fn union_in_the_search_leaks_every_password_hash() {
    let shop = Shop::start();
    let reply =
        shop.get("/search?q=%25%27%20UNION%20SELECT%20id,email,password_hash,0,%27lamp.svg%27,1%20FROM%20users%20--%20");
    assert_eq!((status(&reply), hashes(&reply)), (200, 5));
    assert!(reply.contains("admin@example.com"));
}

#[test]
fn union_in_the_product_number_leaks_password_hashes() {
    let shop = Shop::start();
    let reply = shop.get(
        "/product?id=0%20UNION%20SELECT%201,email,password_hash,0,%27lamp.svg%27,address%20FROM%20users",
    );
    assert_eq!((status(&reply), hashes(&reply)), (200, 1));
}

#[test]
fn a_quote_and_a_comment_log_in_without_a_password() {
    let shop = Shop::start();
    let reply = shop.post("/login", "email=maria%40example.com%27+--+&password=x");
    assert_eq!(status(&reply), 303);
    let account = shop.get_with("/account", &format!("Cookie: {}", session(&reply)));
    assert!(account.contains("4 Quay Street"), "{account}");
}

#[test]
fn script_in_the_search_comes_back_as_script() {
    let shop = Shop::start();
    let reply = shop.get("/search?q=%3Cscript%3Ealert(document.cookie)%3C/script%3E");
    assert!(reply.contains("<em><script>alert(document.cookie)</script></em>"));
}

#[test]
fn script_in_a_review_is_kept_for_the_next_visitor() {
    let shop = Shop::start();
    shop.post("/review", "product=2&author=x&stars=5&text=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E");
    assert!(shop.get("/product?id=2").contains("<img src=x onerror=alert(1)>"));
}

#[test]
fn a_download_leaves_its_folder() {
    let shop = Shop::start();
    assert!(shop.get("/download?file=../config/shop.toml").contains("secret_key"));
    assert!(shop.get("/download?file=../../../../../../../../etc/passwd").contains("root:"));
}

#[test]
fn the_admin_page_is_open() {
    let shop = Shop::start();
    assert!(shop.get("/admin").contains("12 Hill Road"));
}

#[test]
fn honest_visitors_browse_search_buy_and_log_in() {
    let shop = Shop::start();
    for target in
        ["/", "/products", "/product?id=3", "/cart", "/login", "/assets/shop.css", "/pictures/mug.svg"]
    {
        assert_eq!(status(&shop.get(target)), 200, "{target}");
    }
    assert!(shop.get("/search?q=women%27s").contains("Trail Pack 24"));
    assert!(shop.get("/search?q=union+jack").contains("Union Jack Tea Towel"));
    assert!(shop.get("/download?file=manuals/kettle.txt").contains("1.6 litres"));

    let added = shop.post("/cart/add", "product=2&quantity=3");
    assert!(shop.get_with("/cart", &format!("Cookie: {}", session(&added))).contains("€ 66.00"));

    let login = shop.post("/login", "email=kenji%40example.com&password=blue-bicycle-21");
    let account = shop.get_with("/account", &format!("Cookie: {}", session(&login)));
    assert!(account.contains("Hello, Kenji Sato"));
    assert_eq!(status(&shop.post("/login", "email=kenji%40example.com&password=wrong")), 401);
}

#[test]
fn a_review_with_code_and_sql_words_is_kept_as_written() {
    let shop = Shop::start();
    let reply = shop.post(
        "/review",
        "product=4&author=Tom&stars=5&text=I+keep+SELECT+name+FROM+shelf+WHERE+price+%26lt%3B+20+ORDER+BY+name%3B+on+page+one",
    );
    assert_eq!(status(&reply), 303);
    assert!(shop.get("/product?id=4").contains("SELECT name FROM shelf WHERE price &lt; 20 ORDER BY name;"));
}

#[test]
fn a_name_of_somebody_elses_choosing_is_not_answered() {
    let shop = Shop::start();
    let reply = shop.send("GET /admin HTTP/1.1\r\nHost: rebound.attacker.test\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&reply), 421);
}
