//! Which request gets which page.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use crate::files::Files;
use crate::pages::{self, Visitor};
use crate::sessions::Sessions;
use crate::store::Store;

/// Everything the shop holds.
#[derive(Debug)]
pub(crate) struct Shop {
    store: Store,
    files: Files,
    sessions: Sessions,
}

impl Shop {
    /// A new shop, stocked.
    pub(crate) fn open() -> anyhow::Result<Self> {
        Ok(Self { store: Store::open()?, files: Files::write()?, sessions: Sessions::default() })
    }

    fn page(&self, headers: &HeaderMap, title: &str, main: &str) -> Html<String> {
        let session = self.sessions.read(session_id(headers));
        let customer = session.customer.and_then(|id| self.store.customer(id).ok().flatten());
        let visitor =
            Visitor { name: customer.map(|c| c.name), cart_count: session.cart.values().copied().sum() };
        Html(pages::page(&visitor, title, main))
    }
}

/// All routes.
pub(crate) fn router(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/products", get(products))
        .route("/search", get(search))
        .route("/product", get(product))
        .route("/review", post(review))
        .route("/cart", get(cart))
        .route("/cart/add", post(cart_add))
        .route("/login", get(login_form).post(login))
        .route("/logout", post(logout))
        .route("/account", get(account))
        .route("/admin", get(admin))
        .route("/download", get(download))
        .route("/pictures/{name}", get(picture))
        .route("/assets/shop.css", get(css))
        .fallback(not_found)
        .layer(middleware::from_fn(known_hosts_only))
        .with_state(shop)
}

type Reply = Result<Response, Failure>;

/// A statement that the database refused. HOLE: the visitor gets to read why.
struct Failure(rusqlite::Error);

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let main = pages::message("Something went wrong", &self.0.to_string());
        let page = pages::page(&Visitor::default(), "Something went wrong", &main);
        (StatusCode::INTERNAL_SERVER_ERROR, Html(page)).into_response()
    }
}

async fn home(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Reply {
    Ok(shop.page(&headers, "Welcome", &pages::home(&shop.store.products()?)).into_response())
}

async fn products(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Reply {
    Ok(shop.page(&headers, "All products", &pages::products(&shop.store.products()?)).into_response())
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    q: String,
}

async fn search(State(shop): State<Arc<Shop>>, headers: HeaderMap, Query(query): Query<Search>) -> Reply {
    let found = shop.store.search(&query.q)?;
    Ok(shop.page(&headers, "Search", &pages::search(&query.q, &found)).into_response())
}

#[derive(Deserialize)]
struct ProductQuery {
    id: String,
}

async fn product(
    State(shop): State<Arc<Shop>>,
    headers: HeaderMap,
    Query(query): Query<ProductQuery>,
) -> Reply {
    let Some(product) = shop.store.product(&query.id)? else {
        return Ok(missing(&shop, &headers));
    };
    let reviews = shop.store.reviews(product.id)?;
    let manual = match product.picture.as_str() {
        "lamp.svg" => Some("lamp.txt"),
        "kettle.svg" => Some("kettle.txt"),
        _ => None,
    };
    let main = pages::product(&product, &reviews, manual);
    Ok(shop.page(&headers, &product.name, &main).into_response())
}

#[derive(Deserialize)]
struct NewReview {
    product: i64,
    author: String,
    stars: i64,
    text: String,
}

async fn review(State(shop): State<Arc<Shop>>, Form(new): Form<NewReview>) -> Reply {
    shop.store.add_review(new.product, &new.author, new.stars, &new.text)?;
    Ok(Redirect::to(&format!("/product?id={}", new.product)).into_response())
}

async fn cart(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Reply {
    let session = shop.sessions.read(session_id(&headers));
    let products = shop.store.products()?;
    let lines: Vec<_> = products
        .into_iter()
        .filter_map(|product| session.cart.get(&product.id).map(|quantity| (product, *quantity)))
        .collect();
    Ok(shop.page(&headers, "Cart", &pages::cart(&lines)).into_response())
}

#[derive(Deserialize)]
struct CartAdd {
    product: i64,
    quantity: u32,
}

async fn cart_add(State(shop): State<Arc<Shop>>, headers: HeaderMap, Form(add): Form<CartAdd>) -> Reply {
    let known = shop.store.products()?.iter().any(|product| product.id == add.product);
    if !known {
        return Ok(missing(&shop, &headers));
    }
    let id = shop.sessions.change(session_id(&headers), |session| {
        let quantity = session.cart.entry(add.product).or_default();
        *quantity = quantity.saturating_add(add.quantity).min(99);
    });
    Ok(with_session(&id, Redirect::to("/cart").into_response()))
}

async fn login_form(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Html<String> {
    shop.page(&headers, "Log in", &pages::login(""))
}

#[derive(Deserialize)]
struct Login {
    email: String,
    password: String,
}

async fn login(State(shop): State<Arc<Shop>>, headers: HeaderMap, Form(login): Form<Login>) -> Reply {
    let Some(customer) = shop.store.login(&login.email, &login.password)? else {
        let main = pages::login("That e-mail and password do not go together.");
        return Ok((StatusCode::UNAUTHORIZED, shop.page(&headers, "Log in", &main)).into_response());
    };
    let id = shop.sessions.change(session_id(&headers), |session| session.customer = Some(customer));
    Ok(with_session(&id, Redirect::to("/account").into_response()))
}

async fn logout(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Response {
    shop.sessions.change(session_id(&headers), |session| session.customer = None);
    Redirect::to("/").into_response()
}

async fn account(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Reply {
    let customer = shop.sessions.read(session_id(&headers)).customer;
    match customer.map(|id| shop.store.customer(id)).transpose()?.flatten() {
        Some(customer) => Ok(shop.page(&headers, "Your account", &pages::account(&customer)).into_response()),
        None => Ok(Redirect::to("/login").into_response()),
    }
}

/// HOLE: nobody asks who is looking.
async fn admin(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Reply {
    let main = pages::admin(&shop.store.customers()?);
    Ok(shop.page(&headers, "Customers", &main).into_response())
}

#[derive(Deserialize)]
struct Download {
    file: String,
}

async fn download(
    State(shop): State<Arc<Shop>>,
    headers: HeaderMap,
    Query(query): Query<Download>,
) -> Response {
    match shop.files.download(&query.file) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], bytes).into_response(),
        Err(_) => missing(&shop, &headers),
    }
}

async fn picture(State(shop): State<Arc<Shop>>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    match shop.files.picture(&name) {
        Some(bytes) => {
            let fields = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "max-age=3600")];
            (fields, bytes).into_response()
        }
        None => missing(&shop, &headers),
    }
}

async fn css() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../assets/shop.css"))
}

async fn not_found(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Response {
    missing(&shop, &headers)
}

fn missing(shop: &Shop, headers: &HeaderMap) -> Response {
    let main = pages::message("Not here", "There is nothing at this address.");
    (StatusCode::NOT_FOUND, shop.page(headers, "Not here", &main)).into_response()
}

/// See the invariant in `main.rs`.
async fn known_hosts_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let known = matches!(name, "127.0.0.1" | "localhost" | "[::1]" | "::1")
        || name == "example.com"
        || name.ends_with(".example.com")
        || name.ends_with(".example");
    if known {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, "this shop answers for loopback and example hosts only\n")
            .into_response()
    }
}

fn session_id(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    cookies.split(';').find_map(|pair| pair.trim().strip_prefix("shop_session="))
}

fn with_session(id: &str, mut reply: Response) -> Response {
    let cookie = format!("shop_session={id}; Path=/; HttpOnly; SameSite=Lax");
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        reply.headers_mut().insert(header::SET_COOKIE, value);
    }
    reply
}
