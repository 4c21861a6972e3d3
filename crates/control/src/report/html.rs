//! A report as a page of its own, to be read on a screen, printed, or saved as PDF. It loads nothing and runs nothing.

use std::fmt::Write as _;

use phalanx_record::escape::for_html;

use super::{Report, ReportPart, change, chart, figures};

impl Report {
    /// The page.
    pub fn html(&self) -> String {
        let about = self.app.as_deref().map_or("all apps".to_owned(), |app| format!("app {app}"));
        let zone = self.zone();
        let title = format!("Phalanx: {about}, {} to {}", zone.date(self.from_ms), zone.date(self.to_ms));
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{}</title><style>{STYLE}</style></head><body><main>\n<h1>{}</h1>\n<p class=\"when\">{}; made {} {}.</p>\n",
            for_html(&title),
            for_html(&about),
            self.time_words(),
            zone.shown(self.made_at_ms),
            zone.distance_at(self.made_at_ms),
        );
        for remark in self.remarks() {
            let _ = writeln!(out, "<p>{}.</p>", for_html(&sentence(&remark)));
        }
        self.missing(&mut out);
        self.totals(&mut out);
        out.push_str("<h2>Over time</h2>\n<figure>");
        out.push_str(&chart::svg(&self.over_time, &zone));
        let step = self.step_ms / 60_000;
        let step = if step.is_multiple_of(60) { format!("{} h", step / 60) } else { format!("{step} min") };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "<figcaption><span class=\"key all\"></span> all requests <span class=\"key refused\"></span> refused; a bar is {step}</figcaption></figure>"
        );
        self.parts.iter().for_each(|part| self.part(&mut out, part));
        self.clients(&mut out);
        self.incidents(&mut out);
        out.push_str("</main></body></html>\n");
        out
    }

    /// Says first what is not in the figures.
    fn missing(&self, out: &mut String) {
        let names = |nodes: &[crate::api::NodeName]| -> String {
            let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            for_html(&names.join(", ")).into_owned()
        };
        let _ = writeln!(out, "<p>Counted by {}.</p>", names(&self.answered));
        if !self.copied.is_empty() {
            let told = names(&self.copied);
            let _ = writeln!(out, "<p>Told by control nodes of their sites, from copies: {told}.</p>");
        }
        let missing: Vec<_> = self.lacking().into_iter().cloned().collect();
        if !missing.is_empty() {
            let _ = writeln!(
                out,
                "<p class=\"warn\">Missing, because they did not answer: {}.</p>",
                names(&missing)
            );
        }
        if self.totals.dropped > 0 {
            let _ = writeln!(
                out,
                "<p class=\"warn\">{} requests were served and not recorded for want of room; they are in no other figure.</p>",
                self.totals.dropped
            );
        }
    }

    fn totals(&self, out: &mut String) {
        out.push_str("<dl>");
        for ((name, now), (_, before)) in figures(&self.totals).into_iter().zip(figures(&self.before)) {
            let _ = write!(
                out,
                "<div><dt>{name}</dt><dd>{}<small>{}</small></dd></div>",
                grouped(now),
                change(now, before)
            );
        }
        out.push_str("</dl>\n");
    }

    fn part(&self, out: &mut String, part: &ReportPart) {
        if part.rows.is_empty() {
            return;
        }
        let (title, number) = match part.by.as_str() {
            "app" => ("Apps", "requests"),
            "class" => ("Refused, by class of rule", "refused"),
            "rule" => ("Refused, by rule", "refused"),
            "country" => ("Refused, by country", "refused"),
            other => (other, "requests"),
        };
        let most = part.rows.iter().map(|row| row.requests).max().unwrap_or_default().max(1);
        let _ = writeln!(
            out,
            "<h2>{}</h2>\n<table><thead><tr><th scope=\"col\">{}</th><th scope=\"col\" class=\"n\">{number}</th><th aria-hidden=\"true\"></th></tr></thead><tbody>",
            for_html(title),
            for_html(&part.by),
        );
        let rows = part.rows.iter().map(|row| (row.key.as_str(), self.words(part, row), row.requests));
        for (key, words, requests) in rows.chain((part.others > 0).then_some(("others", None, part.others))) {
            let words = words.map(|words| format!("<small>{}</small>", for_html(words))).unwrap_or_default();
            let share = requests.saturating_mul(100) / most;
            let _ = writeln!(
                out,
                "<tr><td>{}{words}</td><td class=\"n\">{}</td><td class=\"bar\"><svg viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect class=\"all\" width=\"{}\" height=\"8\"/></svg></td></tr>",
                for_html(key),
                grouped(requests),
                share.min(100),
            );
        }
        out.push_str("</tbody></table>\n");
    }

    fn clients(&self, out: &mut String) {
        if self.clients.is_empty() {
            return;
        }
        out.push_str("<h2>Clients refused most</h2>\n<table><thead><tr><th scope=\"col\">client</th><th scope=\"col\">country</th><th scope=\"col\">network</th><th scope=\"col\">rules</th><th scope=\"col\" class=\"n\">refused</th></tr></thead><tbody>\n");
        for one in &self.clients {
            let rules: Vec<String> = one.rules.iter().map(|rule| self.rule(*rule)).collect();
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td></tr>",
                for_html(&one.client),
                for_html(one.country.as_deref().unwrap_or("")),
                one.asn.map(|asn| format!("AS{asn}")).unwrap_or_default(),
                rules.join("; "),
                grouped(one.refused),
            );
        }
        out.push_str("</tbody></table>\n");
    }

    /// Its number, and what it says, as HTML.
    fn rule(&self, rule: u64) -> String {
        self.rules
            .get(&rule.to_string())
            .map_or_else(|| rule.to_string(), |words| format!("{rule} {}", for_html(words)))
    }

    fn incidents(&self, out: &mut String) {
        out.push_str("<h2>Incidents</h2>\n");
        if self.incidents.is_empty() {
            out.push_str("<p>None.</p>\n");
            return;
        }
        out.push_str("<table><thead><tr><th scope=\"col\">id</th><th scope=\"col\">severity</th><th scope=\"col\">opened</th><th scope=\"col\">what</th></tr></thead><tbody>\n");
        let zone = self.zone();
        for one in &self.incidents {
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                for_html(&one.id),
                for_html(&one.severity),
                format_args!("{} {}", zone.shown(one.opened_at_ms), zone.distance_at(one.opened_at_ms)),
                for_html(&one.told()),
            );
        }
        out.push_str("</tbody></table>\n");
    }
}

/// With a capital letter.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A number with a space between thousands, which does not break.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1a1d21;--dim:#5b6470;--line:#d7dce2;--paper:#fff;--all:#9fb3c8;--refused:#b3261e;--warn:#8a4b00}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--dim:#9aa4b0;--line:#363d45;--paper:#14171a;--all:#5a6f85;--refused:#f2877f;--warn:#f0b35c}}\
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
main{max-width:800px;margin:0 auto;padding:32px 20px}h1{font-size:26px;margin:0}h2{font-size:17px;margin:32px 0 8px}\
.when,small,figcaption{color:var(--dim)}.when{margin:0 0 16px}.warn{color:var(--warn);font-weight:600}\
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(120px,1fr));gap:12px;margin:16px 0}dl div{border:1px solid var(--line);border-radius:6px;padding:10px 12px}\
dt{color:var(--dim);font-size:13px}dd{margin:0;font-size:22px;font-variant-numeric:tabular-nums}dd small,td small{display:block;font-size:12px}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:5px 8px;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}\
th{font-size:13px;color:var(--dim);font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.bar{width:30%;vertical-align:middle}.bar svg{width:100%;height:8px;display:block}\
figure{margin:0}figure svg{width:100%;height:150px;display:block;border-bottom:1px solid var(--line)}\
rect.all{fill:var(--all)}rect.refused{fill:var(--refused)}.key{display:inline-block;width:10px;height:10px;border-radius:2px;margin-left:8px}.key.all{background:var(--all);margin-left:0}.key.refused{background:var(--refused)}\
@media print{:root{color-scheme:light;--ink:#000;--dim:#444;--line:#bbb;--paper:#fff;--all:#9fb3c8;--refused:#b3261e;--warn:#8a4b00}main{padding:0;max-width:none}table,figure,dl{break-inside:avoid}@page{margin:18mm}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_is_text_and_the_page_loads_nothing() {
        let page = super::super::tests::report().html();
        assert!(!page.contains("<script") && !page.contains("HYPERLINK(\""), "{page}");
        for loads in [" src=", " href=", "url(", "@import"] {
            assert!(!page.contains(loads), "{loads} in {page}");
        }
        assert!(page.contains("Missing, because they did not answer: syd/b."));
        insta::assert_snapshot!(page.replace(STYLE, ""));
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
    }
}
