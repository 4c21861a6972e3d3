//! What operators do is in the ledger before it is done, so that nothing is done without; and that it was not done after all is there, too.

use std::cell::RefCell;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::router::Control;

/// Who was about to do what.
struct Announced {
    name: String,
    action: String,
}

tokio::task_local! {
    /// What one call has announced so far: one action, as a rule.
    static ANNOUNCED: RefCell<Vec<Announced>>;
}

/// Remembers for the end of the call what it announced. Calls outside of [`tell_what_was_not_done`] answer for themselves.
pub(crate) fn announced(name: &str, action: &str) {
    // None outside of a call.
    let _ = ANNOUNCED.try_with(|all| {
        all.borrow_mut().push(Announced { name: name.to_owned(), action: action.to_owned() });
    });
}

/// Why a call failed, for people; beside the answer, which is bytes already.
#[derive(Debug, Clone)]
pub(crate) struct Why(pub(crate) Arc<str>);

/// Where a call fails that has announced something, the ledger says so.
pub(crate) async fn tell_what_was_not_done(
    State(control): State<Arc<Control>>,
    request: Request,
    next: Next,
) -> Response {
    let call = async {
        let response = next.run(request).await;
        (response, ANNOUNCED.with(RefCell::take))
    };
    let (response, announced) = ANNOUNCED.scope(RefCell::default(), call).await;
    if response.status().is_client_error() || response.status().is_server_error() {
        let why = response.extensions().get::<Why>().map_or("it failed", |why| &why.0);
        for Announced { name, action } in announced {
            // Without room for it the ledger says by its own gap that it was full; the answer says why nothing was done.
            let _ = control.record_as(&name, &format!("not done: {action}: {why}"));
        }
    }
    response
}
