//! The endpoints about reports that are sent by themselves.

use super::{Answer, Endpoint, get, of, post};
use crate::api::{ReportScheduleRow, ReportSent};
use crate::paging;

/// All of them.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get(
            "/api/v1/reports",
            "Reports of this node's settings that are sent by themselves, with the next and the last of each",
            Answer::Json("200", of::<Vec<ReportScheduleRow>>),
        )
    },
    Endpoint {
        parameters: &[("name", "path", "string", "the schedule's name")],
        errors: &[
            ("404", "this node has no such schedule"),
            ("422", "as many are being told as may be at once"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/reports/{name}/send",
            "Send the report of the latest time that is over now, and say who took it; it is sent at its hour all the same",
            Answer::Json("200", of::<ReportSent>),
        )
    },
];
