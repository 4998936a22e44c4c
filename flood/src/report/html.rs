//! The report as one page: charts, and every number of them as tables. No script, and nothing is loaded.

use std::fmt::Write as _;

use ocelli_common::svg::escape;
use ocelli_common::text::thousands;

use super::charts::{self, MAX_LINES};
use super::text::{ms, rate};
use crate::client::connection::STEPS;
use crate::settings::Load;
use crate::statistics::level::Level;
use crate::statistics::summary::Summary;

/// Colours of Okabe and Ito (2008), which colour-blind people tell apart; dashes differ too.
const STYLE: &str = "\
:root{color-scheme:light dark}\
body{margin:0;background:#fff;color:#1b1f24;font:16px/1.5 system-ui,sans-serif}\
main{max-width:1040px;margin:0 auto;padding:24px 16px}\
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:32px 0 8px}p{margin:4px 0}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}\
caption{text-align:left;font-size:14px;padding:4px 0;opacity:.8}\
th,td{padding:4px 10px;text-align:right;border-bottom:1px solid #8884;white-space:nowrap}\
th[scope=row]{text-align:left}td.text{text-align:left;white-space:normal}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:16px}\
.charts svg{width:100%;height:auto;border:1px solid #8884;border-radius:6px}\
.missed{border-left:4px solid #d55e00;padding:4px 12px}.good{border-left:4px solid #009e73;padding:4px 12px}\
.line{fill:none;stroke:currentColor;stroke-width:2}.dot{fill:currentColor}\
.c0{color:#0072b2}.c1{color:#d55e00;stroke-dasharray:7 3}.c2{color:#009e73;stroke-dasharray:2 3}\
.c3{color:#aa4499;stroke-dasharray:9 3 2 3}.c4{color:#7a6a00;stroke-dasharray:4 2}.c5{color:#666;stroke-dasharray:1 2}\
@media(prefers-color-scheme:dark){body{background:#15181c;color:#e6e8eb}\
.c0{color:#56b4e9}.c1{color:#e69f00}.c2{color:#2fc49a}.c3{color:#dd8ac0}.c4{color:#f0e442}.c5{color:#bbb}}\
@media print{.charts svg{break-inside:avoid}}";

/// The page, well-formed as XML too.
pub fn page(summary: &Summary, levels: &[Level]) -> String {
    let url = escape(&summary.url);
    let mut page = Page(String::new());
    page.add(format_args!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
        <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n\
        <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
        <title>Load test of {url}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>Load test of {url}</h1>\n"
    ));
    about(&mut page, summary);
    page.add(format_args!("<h2>Levels of load</h2>\n"));
    table_of_levels(&mut page, levels);
    page.add(format_args!("<h2>Charts</h2>\n<div class=\"charts\">\n"));
    // One point is no curve.
    if levels.len() > 1 {
        page.add(format_args!("{}{}", charts::throughput(levels), charts::latency(levels)));
    }
    page.add(format_args!("{}{}</div>\n", charts::distribution(levels), charts::time_line(levels)));
    if levels.len() > MAX_LINES {
        page.add(format_args!("<p>The last two charts draw {MAX_LINES} of {} levels.</p>\n", levels.len()));
    }
    if levels.iter().any(|level| !level.service_ms.is_empty()) {
        page.add(format_args!("<h2>Inside the service</h2>\n"));
        table_of_steps(&mut page, levels);
    }
    page.add(format_args!("<h2>Answers and errors</h2>\n"));
    table_of_answers(&mut page, levels);
    page.add(format_args!(
        "<h2>How to read this</h2>\n<p>{}</p>\n</main>\n</body>\n</html>\n",
        reading(levels)
    ));
    page.0
}

struct Page(String);

impl Page {
    fn add(&mut self, piece: std::fmt::Arguments) {
        self.0.write_fmt(piece).expect("writing to a string cannot fail");
    }

    /// A table in a box that scrolls by itself on narrow screens. Heads and cells are HTML.
    fn table(&mut self, caption: &str, heads: &[String], rows: &[Vec<String>]) {
        self.add(format_args!("<div class=\"wide\"><table>\n<caption>{caption}</caption>\n<thead><tr>"));
        for head in heads {
            self.add(format_args!("<th scope=\"col\">{head}</th>"));
        }
        self.add(format_args!("</tr></thead>\n<tbody>\n"));
        for row in rows {
            let (name, cells) = row.split_first().expect("a row has a name");
            self.add(format_args!("<tr><th scope=\"row\">{name}</th>"));
            for cell in cells {
                self.add(format_args!("<td>{cell}</td>"));
            }
            self.add(format_args!("</tr>\n"));
        }
        self.add(format_args!("</tbody>\n</table></div>\n"));
    }
}

/// What was sent to what, and whether it went well.
fn about(page: &mut Page, summary: &Summary) {
    if let Some(status) = &summary.service {
        page.add(format_args!("<p>{}</p>\n", escape(&status.to_string())));
    }
    let body = format!("{:?}", summary.body).to_lowercase();
    page.add(format_args!(
        "<p>{} distinct images, {}; {} in a request, sent as {body}; ocelli {} with {} sending.</p>\n",
        thousands(summary.distinct_images as u64),
        escape(&summary.images),
        summary.batch,
        summary.version,
        match summary.threads {
            1 => "1 thread".to_owned(),
            n => format!("{n} threads"),
        }
    ));
    if summary.debug_build {
        page.add(format_args!("<p class=\"missed\">Sent by a debug build, which is slower.</p>\n"));
    }
    if summary.interrupted {
        page.add(format_args!("<p class=\"missed\">Stopped early: the last level is incomplete.</p>\n"));
    }
    for missed in &summary.missed {
        page.add(format_args!("<p class=\"missed\">{}</p>\n", escape(missed)));
    }
    if summary.missed.is_empty() {
        let (ok, best) = (thousands(summary.ok), rate(summary.best_ok_per_second));
        page.add(format_args!(
            "<p class=\"good\">{ok} good answers, {best} a second at best; all limits were kept.</p>\n"
        ));
    }
}

fn table_of_levels(page: &mut Page, levels: &[Level]) {
    let heads = [
        "load", "requests", "errors", "good/s", "images/s", "mean", "p50", "p90", "p95", "p99", "p99.9",
        "max",
    ];
    let row = |level: &Level| {
        let mut row = vec![
            level.load.to_string(),
            thousands(level.requests),
            thousands(level.errors),
            rate(level.ok_per_second),
            rate(level.images_per_second),
        ];
        match &level.latency_ms {
            Some(l) => row.extend([l.mean, l.p50, l.p90, l.p95, l.p99, l.p99_9, l.max].map(ms)),
            None => row.extend(std::iter::repeat_n("–".to_owned(), 7)),
        }
        row
    };
    let rows: Vec<_> = levels.iter().map(row).collect();
    page.table("Latency of good answers in milliseconds", &heads.map(str::to_owned), &rows);
}

fn table_of_steps(page: &mut Page, levels: &[Level]) {
    let heads: Vec<String> = std::iter::once("load".to_owned())
        .chain(STEPS.iter().flat_map(|step| [format!("{step} p50"), format!("{step} p99")]))
        .collect();
    let row = |level: &Level| {
        let steps = STEPS.iter().flat_map(|step| match level.service_ms.get(step) {
            Some(step) => [ms(step.p50), ms(step.p99)],
            None => ["–".to_owned(), "–".to_owned()],
        });
        std::iter::once(level.load.to_string()).chain(steps).collect()
    };
    let rows: Vec<_> = levels.iter().map(row).collect();
    page.table("Milliseconds, as the service states them in Server-Timing", &heads, &rows);
}

fn table_of_answers(page: &mut Page, levels: &[Level]) {
    let mut rows = Vec::new();
    for level in levels {
        for (status, count) in &level.statuses {
            rows.push(vec![
                level.load.to_string(),
                format!("status {status}"),
                thousands(*count),
                String::new(),
            ]);
        }
        for (kind, fault) in &level.faults {
            let kind = format!("error {}", escape(kind));
            rows.push(vec![level.load.to_string(), kind, thousands(fault.count), escape(&fault.example)]);
        }
    }
    let heads = ["load", "what", "count", "for example"].map(str::to_owned);
    page.table("Answers by status, and failed requests by kind", &heads, &rows);
}

fn reading(levels: &[Level]) -> &'static str {
    match levels.first().map(|level| level.load) {
        Some(Load::Open { .. }) => {
            "Requests were sent at times that do not depend on answers, and latency counts from those times: what had to \
            wait for a connection has waited."
        }
        _ => {
            "Each connection sent its next request when it had its answer, so throughput is the most that the service \
            does at this many connections, and latency is what its answers take under that load. Users who come at \
            their own times meet other latencies, which an open loop measures."
        }
    }
}
