//! The shop's pages as HTML text. Values are escaped, but for the lines marked HOLE.

use crate::store::{Customer, Product, Review};

/// What every page shows in its head.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visitor {
    /// The name, when logged in.
    pub(crate) name: Option<String>,
    /// Things in the cart.
    pub(crate) cart_count: u32,
}

/// A whole page around `main`, which is HTML already.
pub(crate) fn page(visitor: &Visitor, title: &str, main: &str) -> String {
    let account = match &visitor.name {
        Some(name) => format!("<a href=\"/account\">{}</a>", escape(name)),
        None => "<a href=\"/login\">Log in</a>".to_owned(),
    };
    format!(
        "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>{title} - Harbour &amp; Pine</title><link rel=\"stylesheet\" href=\"/assets/shop.css\"></head>
<body><header><a class=\"brand\" href=\"/\">Harbour &amp; Pine</a>
<form action=\"/search\" role=\"search\"><input name=\"q\" placeholder=\"Search the shop\" aria-label=\"Search the shop\"><button>Search</button></form>
<nav><a href=\"/products\">All products</a><a href=\"/cart\">Cart ({cart})</a>{account}</nav></header>
<main>{main}</main>
<footer>Harbour &amp; Pine, things for home and trail. A shop for demonstrations: its holes are real, its goods are not.</footer>
</body></html>
",
        title = escape(title),
        cart = visitor.cart_count,
    )
}

/// The first page.
pub(crate) fn home(products: &[Product]) -> String {
    format!(
        "<section class=\"hero\"><h1>Made to be used.</h1>
<p>Lamps, mugs, packs and paper from small makers along the coast. Sent within two days, taken back within sixty.</p></section>
<h2>This week</h2>{}",
        grid(products.iter().take(4))
    )
}

/// All products.
pub(crate) fn products(products: &[Product]) -> String {
    format!("<h1>All products</h1>{}", grid(products.iter()))
}

/// What a search found. HOLE: the visitor's words come back as they are (reflected script).
pub(crate) fn search(words: &str, found: &[Product]) -> String {
    let count = found.len();
    format!("<h1>Search</h1><p>{count} found for <em>{words}</em></p>{}", grid(found.iter()))
}

/// One product with its reviews. HOLE: a review's text comes back as it was written (stored script).
pub(crate) fn product(product: &Product, reviews: &[Review], manual: Option<&str>) -> String {
    let manual = manual
        .map(|file| format!("<p><a href=\"/download?file=manuals/{file}\">Care sheet (text)</a></p>"))
        .unwrap_or_default();
    let mut written = String::new();
    for review in reviews {
        let stars = "★".repeat(usize::try_from(review.stars).unwrap_or_default());
        written.push_str(&format!(
            "<div class=\"review\"><span class=\"stars\">{stars}</span> <strong>{}</strong><div>{}</div></div>",
            escape(&review.author),
            review.text,
        ));
    }
    format!(
        "<div class=\"product\"><img src=\"/pictures/{picture}\" alt=\"\"><div><h1>{name}</h1><p class=\"muted\">{tagline}</p>
<p class=\"price\">{price}</p><p>{description}</p>{manual}
<form class=\"sheet\" method=\"post\" action=\"/cart/add\"><input type=\"hidden\" name=\"product\" value=\"{id}\">
<label>Quantity<input name=\"quantity\" type=\"number\" min=\"1\" max=\"99\" value=\"1\"></label><button>Add to cart</button></form></div></div>
<h2>Reviews</h2>{written}
<h2>Write one</h2><form class=\"sheet\" method=\"post\" action=\"/review\"><input type=\"hidden\" name=\"product\" value=\"{id}\">
<label>Your name<input name=\"author\" required maxlength=\"60\"></label>
<label>Stars<select name=\"stars\"><option>5<option>4<option>3<option>2<option>1</select></label>
<label>What you think<textarea name=\"text\" rows=\"4\" required></textarea></label><button>Send</button></form>",
        picture = escape(&product.picture),
        name = escape(&product.name),
        tagline = escape(&product.tagline),
        price = price(product.price_cents),
        description = escape(&product.description),
        id = product.id,
    )
}

/// The login form, with a line about what went wrong.
pub(crate) fn login(note: &str) -> String {
    let note =
        if note.is_empty() { String::new() } else { format!("<p class=\"note\">{}</p>", escape(note)) };
    format!(
        "<h1>Log in</h1>{note}<form class=\"sheet\" method=\"post\" action=\"/login\">
<label>E-mail<input name=\"email\" autocomplete=\"username\" required></label>
<label>Password<input name=\"password\" type=\"password\" autocomplete=\"current-password\" required></label><button>Log in</button></form>"
    )
}

/// The account of whoever is logged in.
pub(crate) fn account(customer: &Customer) -> String {
    format!(
        "<h1>Hello, {}</h1><table><tr><th>E-mail<td>{}<tr><th>Address<td>{}<tr><th>Account<td>{}</table>
<form method=\"post\" action=\"/logout\"><p><button>Log out</button></p></form>",
        escape(&customer.name),
        escape(&customer.email),
        escape(&customer.address),
        if customer.admin { "staff" } else { "customer" },
    )
}

/// What lies in the cart.
pub(crate) fn cart(lines: &[(Product, u32)]) -> String {
    if lines.is_empty() {
        return "<h1>Cart</h1><p>Nothing in it yet. <a href=\"/products\">Have a look around.</a></p>"
            .to_owned();
    }
    let mut rows = String::new();
    let mut total_cents = 0;
    for (product, quantity) in lines {
        let line_cents = product.price_cents * i64::from(*quantity);
        total_cents += line_cents;
        rows.push_str(&format!(
            "<tr><td><a href=\"/product?id={}\">{}</a><td>{quantity}<td>{}",
            product.id,
            escape(&product.name),
            price(line_cents),
        ));
    }
    format!(
        "<h1>Cart</h1><table><tr><th>Thing<th>Quantity<th>Price{rows}<tr><th>Together<th><th>{}</table>",
        price(total_cents)
    )
}

/// The page for the shop's own people, with every customer on it.
pub(crate) fn admin(customers: &[Customer]) -> String {
    let mut rows = String::new();
    for customer in customers {
        rows.push_str(&format!(
            "<tr><td>{}<td>{}<td>{}<td>{}",
            customer.id,
            escape(&customer.name),
            escape(&customer.email),
            escape(&customer.address),
        ));
    }
    format!("<h1>Customers</h1><table><tr><th>No.<th>Name<th>E-mail<th>Address{rows}</table>")
}

/// A short message.
pub(crate) fn message(title: &str, text: &str) -> String {
    format!("<h1>{}</h1><p>{}</p>", escape(title), escape(text))
}

fn grid<'a>(products: impl Iterator<Item = &'a Product>) -> String {
    let mut cards = String::new();
    for product in products {
        cards.push_str(&format!(
            "<a class=\"card\" href=\"/product?id={}\"><img src=\"/pictures/{}\" alt=\"\"><div><strong>{}</strong><small>{}</small><div class=\"price\">{}</div></div></a>",
            product.id,
            escape(&product.picture),
            escape(&product.name),
            escape(&product.tagline),
            price(product.price_cents),
        ));
    }
    format!("<div class=\"grid\">{cards}</div>")
}

fn price(cents: i64) -> String {
    format!("€ {}.{:02}", cents / 100, (cents % 100).abs())
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
