//! The shop's data in an in-memory SQLite database, with queries as people really write them.
//!
//! Lines marked HOLE build SQL from a visitor's text. Everything else binds its values.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use rusqlite::{Connection, Row, params, types::ValueRef};

/// One thing for sale.
#[derive(Debug, Clone)]
pub(crate) struct Product {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) tagline: String,
    pub(crate) price_cents: i64,
    pub(crate) picture: String,
    pub(crate) description: String,
}

/// One customer; `admin` for the shop's own people.
#[derive(Debug, Clone)]
pub(crate) struct Customer {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) address: String,
    pub(crate) admin: bool,
}

/// What somebody wrote about a product.
#[derive(Debug, Clone)]
pub(crate) struct Review {
    pub(crate) author: String,
    pub(crate) stars: i64,
    pub(crate) text: String,
}

/// The database.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Mutex<Connection>,
}

impl Store {
    /// A database with products, customers and a few reviews in it.
    pub(crate) fn open() -> rusqlite::Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(SCHEMA)?;
        for (name, tagline, price_cents, picture, description) in PRODUCTS {
            connection.execute(
                "INSERT INTO products (name, tagline, price_cents, picture, description) VALUES (?, ?, ?, ?, ?)",
                params![name, tagline, price_cents, picture, description],
            )?;
        }
        for (name, email, password, address, admin) in CUSTOMERS {
            connection.execute(
                "INSERT INTO users (name, email, password_hash, address, admin) VALUES (?, ?, ?, ?, ?)",
                params![name, email, password_hash(password), address, admin],
            )?;
        }
        let store = Self { connection: Mutex::new(connection) };
        for (product, author, stars, text) in REVIEWS {
            store.add_review(product, author, stars, text)?;
        }
        Ok(store)
    }

    /// All products.
    pub(crate) fn products(&self) -> rusqlite::Result<Vec<Product>> {
        self.select_products(&format!("SELECT {COLUMNS} FROM products ORDER BY id"))
    }

    /// Products that match a word. HOLE: the word goes into the SQL text. When that breaks the statement, a bound query answers
    /// instead: the patch somebody made for "women's" without closing the hole.
    pub(crate) fn search(&self, word: &str) -> rusqlite::Result<Vec<Product>> {
        let hole = format!(
            "SELECT {COLUMNS} FROM products WHERE name LIKE '%{word}%' OR description LIKE '%{word}%' LIMIT 50"
        );
        if let Ok(found) = self.select_products(&hole) {
            return Ok(found);
        }
        let connection = self.connection.lock();
        let mut statement = connection.prepare(&format!(
            "SELECT {COLUMNS} FROM products WHERE name LIKE ?1 OR description LIKE ?1 LIMIT 50"
        ))?;
        let rows = statement.query_map([format!("%{word}%")], product)?;
        rows.collect()
    }

    /// One product. HOLE: the number is not checked to be one.
    pub(crate) fn product(&self, id: &str) -> rusqlite::Result<Option<Product>> {
        let hole = format!("SELECT {COLUMNS} FROM products WHERE id = {id}");
        Ok(self.select_products(&hole)?.into_iter().next())
    }

    /// Logs in. HOLE: the e-mail address goes into the SQL text.
    pub(crate) fn login(&self, email: &str, password: &str) -> rusqlite::Result<Option<i64>> {
        let hole = format!(
            "SELECT id FROM users WHERE email = '{email}' AND password_hash = '{}'",
            password_hash(password)
        );
        let connection = self.connection.lock();
        let mut statement = connection.prepare(&hole)?;
        let mut rows = statement.query_map([], |row| row.get(0))?;
        rows.next().transpose()
    }

    /// One customer.
    pub(crate) fn customer(&self, id: i64) -> rusqlite::Result<Option<Customer>> {
        Ok(self.customers()?.into_iter().find(|customer| customer.id == id))
    }

    /// All customers.
    pub(crate) fn customers(&self) -> rusqlite::Result<Vec<Customer>> {
        let connection = self.connection.lock();
        let mut statement =
            connection.prepare("SELECT id, name, email, address, admin FROM users ORDER BY id")?;
        let rows = statement.query_map([], |row| {
            Ok(Customer {
                id: row.get(0)?,
                name: row.get(1)?,
                email: row.get(2)?,
                address: row.get(3)?,
                admin: row.get(4)?,
            })
        })?;
        rows.collect()
    }

    /// The reviews of a product, newest first.
    pub(crate) fn reviews(&self, product: i64) -> rusqlite::Result<Vec<Review>> {
        let connection = self.connection.lock();
        let mut statement = connection
            .prepare("SELECT author, stars, text FROM reviews WHERE product = ? ORDER BY id DESC LIMIT 30")?;
        let rows = statement.query_map([product], |row| {
            Ok(Review { author: row.get(0)?, stars: row.get(1)?, text: row.get(2)? })
        })?;
        rows.collect()
    }

    /// Keeps a review, exactly as written, and forgets the oldest of the product beyond [`REVIEWS_MAX`].
    pub(crate) fn add_review(
        &self,
        product: i64,
        author: &str,
        stars: i64,
        text: &str,
    ) -> rusqlite::Result<()> {
        let connection = self.connection.lock();
        connection.execute(
            "INSERT INTO reviews (product, author, stars, text) VALUES (?, ?, ?, ?)",
            params![product, author, stars.clamp(1, 5), text],
        )?;
        connection.execute(
            "DELETE FROM reviews WHERE product = ?1 AND id NOT IN
             (SELECT id FROM reviews WHERE product = ?1 ORDER BY id DESC LIMIT ?2)",
            params![product, REVIEWS_MAX],
        )?;
        Ok(())
    }

    fn select_products(&self, sql: &str) -> rusqlite::Result<Vec<Product>> {
        let connection = self.connection.lock();
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], product)?;
        rows.collect()
    }
}

/// Reads a product from whatever a statement returned, as a lenient template would.
fn product(row: &Row<'_>) -> rusqlite::Result<Product> {
    Ok(Product {
        id: text(row, 0)?.parse().unwrap_or_default(),
        name: text(row, 1)?,
        tagline: text(row, 2)?,
        price_cents: text(row, 3)?.parse().unwrap_or_default(),
        picture: text(row, 4)?,
        description: text(row, 5)?,
    })
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    })
}

/// HOLE: fast and without salt; a leaked table is soon a table of passwords.
fn password_hash(password: &str) -> String {
    HEXLOWER.encode(digest(&SHA256, password.as_bytes()).as_ref())
}

const COLUMNS: &str = "id, name, tagline, price_cents, picture, description";

const REVIEWS_MAX: i64 = 50;

const SCHEMA: &str = "
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, tagline TEXT, price_cents INTEGER, picture TEXT, description TEXT);
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT UNIQUE, password_hash TEXT, address TEXT, admin INTEGER);
CREATE TABLE reviews (id INTEGER PRIMARY KEY, product INTEGER, author TEXT, stars INTEGER, text TEXT);
";

const PRODUCTS: [(&str, &str, i64, &str, &str); 9] = [
    (
        "Harbour Lamp",
        "Warm light for long evenings",
        8900,
        "lamp.svg",
        "A table lamp with a linen shade and an oak foot. Dimmable, and quiet about it.",
    ),
    (
        "Slate Mug",
        "Keeps its heat and its temper",
        2200,
        "mug.svg",
        "Stoneware, thrown and glazed by hand. Holds 350 ml. Safe in the dishwasher.",
    ),
    (
        "Trail Pack 24",
        "A day's worth of everything",
        11900,
        "pack.svg",
        "24 litres, waxed canvas, a pocket for a map and one for a sandwich. Women's and men's straps.",
    ),
    (
        "Field Notebook",
        "Paper that forgives rain",
        1400,
        "notebook.svg",
        "120 pages of dotted stone paper. Select your favourite colour from the table in the shop.",
    ),
    (
        "Beacon Clock",
        "Tells the time, nothing else",
        6400,
        "clock.svg",
        "A wall clock with a sweeping hand. No alarm, no radio, no application.",
    ),
    (
        "Fern in a Pot",
        "Asks for water on Fridays",
        2900,
        "fern.svg",
        "A Boston fern in a terracotta pot. Drop it where the light is soft.",
    ),
    (
        "Wool Throw",
        "Woven on the west coast",
        13800,
        "throw.svg",
        "Lambswool, 130 by 180 cm, with a fringe. Softer after every winter.",
    ),
    (
        "Enamel Kettle",
        "Sings at ninety-five degrees",
        5600,
        "kettle.svg",
        "1.6 litres, for every kind of plate and for an open fire. Care sheet to download.",
    ),
    (
        "Union Jack Tea Towel",
        "Dries dishes, starts arguments",
        1200,
        "towel.svg",
        "Half linen, half cotton. A select gift, from a small mill; where else would it come from?",
    ),
];

/// Made-up people at reserved addresses, with passwords that the demonstration's honest visitors use.
const CUSTOMERS: [(&str, &str, &str, &str, bool); 5] = [
    ("Maria Olsen", "maria@example.com", "harbour-lights-7", "4 Quay Street, Port Example", false),
    ("Kenji Sato", "kenji@example.com", "blue-bicycle-21", "12 Hill Road, Example Heights", false),
    ("Amara Diallo", "amara@example.com", "seven-green-apples", "Flat 3, 80 Station Lane, Sampleton", false),
    ("Tom O'Neill", "tom@example.com", "rainy-tuesday-3", "The Old Forge, Little Sample", false),
    ("Shop Admin", "admin@example.com", "open-at-nine-sharp", "Back office", true),
];

const REVIEWS: [(i64, &str, i64, &str); 4] = [
    (1, "Kenji", 5, "Bought one for the desk, then one for the hall."),
    (2, "Amara", 4, "Heavier than it looks, in a good way."),
    (8, "Tom", 5, "It really does sing."),
    (9, "Maria", 5, "My sister's favourite. We don't argue about it any more."),
];
