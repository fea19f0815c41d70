//! Tests of `report.html` in a real Chromium: on paper, on a phone, and in light and dark colours.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use llmload::report::{self, Report};

use crate::browser::{chromium, open};
use crate::run::run;

/// A name that breaks out of HTML and Markdown, if it is not escaped.
const HOSTILE: &str = "<script>alert(1)</script><img src=x> \"'&amp; **bold** | `code`";

/// A report with all parts: three targets, three levels, objectives, failures, drops, a pause, the
/// metrics page of a server, and a search.
fn report() -> Report {
    static REPORT: OnceLock<Report> = OnceLock::new();
    REPORT.get_or_init(new_report).clone()
}

fn new_report() -> Report {
    let ran = run(
        "targets:
  one: {simulator: {slots: 4, faults: {http_429: 10%, truncation: 10%}}, observe: {vllm: /metrics}}
  other: {simulator: {slots: 2, decode_tokens_per_second: 20}}
  small: {simulator: {slots: 2, decode_tokens_per_second: 200}}
scenarios:
  classic:
    targets: [one, other, small]
    max_concurrency: 8
    request: {max_tokens: 8}
    slo: {ttft: {p99: 300ms}, e2e_latency: {p95: 2s}, success_rate: 99%}
    schedule:
      - {name: warm, constant: 10/s, for: 1200ms}
      - {pause: 200ms}
      - {name: middle, constant: 20/s, for: 1200ms}
      - {name: peak, constant: 60/s, for: 1200ms}
  limit:
    target: small
    request: {max_tokens: 4}
    slo: {e2e_latency: {p50: 150ms}, success_rate: 90%}
    schedule: [{search: {concurrency: {from: 1, to: 16}, resolution: 50%}, for: 1s}]
",
        &["--title", HOSTILE, "--label", "gpu=H100"],
    );
    let mut report = ran.report.unwrap_or_else(|| panic!("{}\n{}", ran.table, ran.log));
    assert!(
        report.routes[0].total.failed > 0 && report.routes[1].total.dropped > 0,
        "{}",
        ran.table
    );
    // The configuration allows only short names, but a server can have any name.
    report.routes[0].model = format!("{HOSTILE} {}", "long".repeat(40));
    let phases = report.routes.iter_mut().flat_map(|route| &mut route.phases);
    let names = phases.map(|phase| &mut phase.name);
    let compared = report.side_by_side.iter_mut().flat_map(|all| &mut all.phases);
    for name in names.chain(compared.map(|phase| &mut phase.phase)) {
        if name == "peak" {
            *name = format!("peak-{}-{HOSTILE}", "unbroken".repeat(8));
        }
    }
    for failure in report.routes.iter_mut().flat_map(|route| &mut route.failures) {
        HOSTILE.clone_into(&mut failure.last_message);
    }
    report
}

/// Returns the texts of all elements with this name.
fn texts(html: &str, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}"), format!("</{element}>"));
    let parts = html.split(&open).skip(1).filter(|part| part.starts_with(['>', ' ']));
    let inner = parts.filter_map(|part| part.split_once('>')?.1.split_once(&close));
    inner.map(|(text, _)| plain(text)).collect()
}

/// Removes the tags, the entities and the spaces of HTML.
fn plain(html: &str) -> String {
    let mut text = String::new();
    for (index, part) in html.split('<').enumerate() {
        text += if index == 0 { part } else { part.split_once('>').map_or("", |split| split.1) };
    }
    for (entity, character) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#x27;", "'"),
        ("&#39;", "'"),
        ("&#x2f;", "/"),
        ("&nbsp;", " "),
        ("&amp;", "&"),
    ] {
        text = text.replace(entity, character);
    }
    without_spaces(&text)
}

fn without_spaces(text: &str) -> String {
    text.chars().filter(|character| !character.is_whitespace()).collect()
}

fn pdftotext(arguments: &[&str], pdf: &Path) -> String {
    let output = Command::new("pdftotext").args(arguments).arg(pdf).arg("-").output();
    let output = output.expect("pdftotext of poppler-utils must be installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn number(tag: &str, name: &str) -> f64 {
    let value = tag.split_once(&format!("{name}=\"")).and_then(|split| split.1.split_once('"'));
    value.unwrap_or_else(|| panic!("no {name} in {tag}")).0.parse().unwrap()
}

#[test]
fn every_row_of_every_table_is_on_one_page_of_the_printed_report() {
    let html = report::html(&report()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (page, pdf) = (folder.path().join("report.html"), folder.path().join("report.pdf"));
    std::fs::write(&page, &html).unwrap();
    let to = format!("--print-to-pdf={}", pdf.display());
    chromium(&["--no-pdf-header-footer", &to], &format!("file://{}", page.display()));
    let text = pdftotext(&["-raw"], &pdf);
    let pages: Vec<&str> = text.trim_end_matches('\u{c}').split('\u{c}').collect();
    let printed: Vec<String> = pages.iter().map(|page| without_spaces(page)).collect();
    let rows = texts(&html, "tr");
    assert!(rows.len() > 60, "{rows:?}");
    for row in rows {
        assert!(printed.iter().any(|page| page.contains(&row)), "{row} is not in\n{text}");
    }
    let config = texts(&html, "pre").concat();
    assert!(printed.concat().contains(&config), "{config} is not in\n{text}");
    let headings = [texts(&html, "h2"), texts(&html, "h3")].concat();
    for table in [
        "By level",
        "Objectives",
        "The server by phase (vLLM)",
        "Steps of the search",
        "Per request",
        "Totals",
        "Failures",
        "Test setup",
    ] {
        assert!(headings.contains(&without_spaces(table)), "{table}: {headings:?}");
    }
    for (number, page) in pages.iter().enumerate() {
        let last = page.lines().rfind(|line| !line.trim().is_empty());
        let last =
            without_spaces(last.unwrap_or_else(|| panic!("page {number} is empty:\n{text}")));
        assert!(!headings.contains(&last), "the heading {last} is at the end of a page");
    }
    // The margin of the page is 12 mm, which are 34 points.
    let margin = 33.0;
    let mut width = 0.0;
    for tag in pdftotext(&["-bbox"], &pdf).split('<') {
        if tag.starts_with("page ") {
            width = number(tag, "width");
        } else if tag.starts_with("word ") {
            let (left, right) = (number(tag, "xMin"), number(tag, "xMax"));
            assert!(left >= margin && right <= width - margin, "{tag} on a page of {width}");
        }
    }
    assert!(width > 500.0, "{width}");
}

/// A page that shows the report in a frame and writes its defects into an element.
fn inspected(html: &str, width: u32, script: &str, arguments: &[&str]) -> serde_json::Value {
    let source = html.replace('&', "&amp;").replace('"', "&quot;");
    let outer = format!(
        "<body style='margin:0'><pre></pre>
<iframe style='width:{width}px;height:800px;border:0' srcdoc=\"{source}\"></iframe>
<script>
const frame = document.querySelector('iframe');
frame.onload = () => {{
  const page = frame.contentDocument, style = (element, part) => frame.contentWindow.getComputedStyle(element, part);
  const problems = [];
  let checked = 0;
  {script}
  document.querySelector('pre').textContent = JSON.stringify({{checked, problems}});
}};
</script>"
    );
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    std::fs::write(&page, outer).unwrap();
    let all = [arguments, &["--virtual-time-budget=9000", "--dump-dom"]].concat();
    let (dom, log) = chromium(&all, &format!("file://{}", page.display()));
    let result = dom.split_once("<pre>").and_then(|split| split.1.split_once("</pre>"));
    let text = result.unwrap_or_else(|| panic!("{dom}\n{log}")).0;
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}\n{log}"))
}

const LAYOUT: &str = r"
  const lists = [];
  const wide = page.documentElement.clientWidth;
  const check = (holds, text) => { checked += 1; if (!holds) problems.push(text); };
  const box = (element) => element.getBoundingClientRect();
  const is_inside = (inner, outer) => inner.left >= outer.left - 1 && inner.right <= outer.right + 1;
  check(page.documentElement.scrollWidth <= wide, 'the page scrolls to the side');
  check(page.scripts.length === 0 && page.images.length === 0, 'a text became an element');
  // A table with many columns is a list on a phone, and each value has the name of its column.
  for (const table of page.querySelectorAll('section')) {
    const [head, ...rows] = table.querySelectorAll('thead tr, tbody tr');
    const is_wide = table.querySelector('thead') && head.cells.length > 3;
    if (!is_wide) continue;
    check((style(table.querySelector('thead')).display === 'none') === wide < 600, 'the head of a table');
    for (const row of rows.filter((row) => row.cells.length > 1)) {
      [...row.cells].forEach((cell, index) => {
        const place = box(cell), name = style(cell, '::before').content;
        check(!cell.textContent || place.width > 0 && is_inside(place, {left: 0, right: wide}), `hidden: ${cell.textContent}`);
        check(index === 0 || wide > 600 || name.includes(head.cells[index].textContent), `no column: ${cell.textContent}`);
      });
    }
    lists.push(table.querySelector('h3').textContent);
  }
  for (const name of ['Steps of the search', 'Targets by phase', 'By level', 'Objectives', 'Per request']) check(lists.includes(name), `${name} is no list`);
  for (const cell of page.querySelectorAll('td, th')) {
    const scroller = cell.closest('.scroll'), view = box(scroller), place = box(cell);
    check(is_inside(view, {left: 0, right: wide}), 'a table is wider than the page');
    const hidden = scroller.scrollWidth - scroller.clientWidth;
    check(place.width <= scroller.clientWidth + 1 && place.right - hidden <= view.right + 1, `unreachable: ${cell.textContent}`);
    check(hidden === 0 || style(scroller).backgroundAttachment.includes('local'), 'no shadow');
    check(cell.cellIndex > 2 || place.right <= view.right + 1, `not visible at first: ${cell.textContent}`);
  }
  // Charts beside each other leave no hole.
  const figures = [...page.querySelectorAll('.charts > figure')].map(box);
  const right = Math.max(...figures.map((figure) => figure.right));
  for (const figure of figures) {
    const row = figures.filter((other) => Math.abs(other.top - figure.top) < 1);
    check(Math.max(...row.map((other) => other.right)) > right - 1, 'a hole between charts');
  }
  for (const chart of page.querySelectorAll('figure > svg')) {
    const name = chart.getAttribute('aria-label');
    check(chart.getAttribute('role') === 'img' && name && chart.querySelector('desc').textContent, `no name: ${name}`);
    check(is_inside(box(chart), {left: 0, right: wide}), `${name} is wider than the page`);
    check(is_inside(box(chart), box(chart.parentElement)), `${name} is wider than its frame`);
    const texts = [...chart.querySelectorAll('text')];
    check(texts.length > 4, `${name} has no texts`);
    texts.forEach((text, index) => {
      const place = box(text);
      check(place.height >= 9, `${name}: ${text.textContent} is too small`);
      check(is_inside(place, box(chart)), `${name}: ${text.textContent} is cut`);
      for (const other of texts.slice(index + 1).map(box)) {
        check(place.right <= other.left + 1 || other.right <= place.left + 1 || place.bottom <= other.top + 5 || other.bottom <= place.top + 5, `${name}: ${text.textContent} is covered`);
      }
    });
  }
";

#[test]
fn on_a_phone_every_cell_is_reachable_and_every_chart_fits() {
    let html = report::html(&report()).unwrap();
    for width in [390, 1200] {
        let result = inspected(&html, width, LAYOUT, &[]);
        assert_eq!(result["problems"], serde_json::json!([]), "at {width} pixels: {result}");
        assert!(result["checked"].as_u64() > Some(500), "{result}");
    }
}

const CONTRAST: &str = r"
  const light = (colour) => {
    const parts = colour.match(/[\d.]+/g).slice(0, 3).map(Number).map((part) => part / 255);
    const [red, green, blue] = parts.map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const ground = style(page.querySelector('section')).backgroundColor;
  const check = (selector, least) => {
    for (const element of page.querySelectorAll(selector)) {
      checked += 1;
      const colour = element instanceof frame.contentWindow.SVGTextElement ? style(element).fill : style(element).color;
      const found = contrast(colour, ground);
      if (found < least) problems.push(`${selector}: ${colour} on ${ground} has ${found.toFixed(1)}`);
    }
  };
  const is_dark = light(ground) < 0.1;
  if (is_dark !== DARK) problems.push(`the ground is ${ground}`);
  check('h1, h3, p, li, td, th, pre, svg text', 4.5);
  check('.line, .dot, .bar', 3);
";

#[test]
fn text_and_lines_have_enough_contrast_in_light_and_dark_colours() {
    let html = report::html(&report()).unwrap();
    for (is_dark, setting) in [(false, "1"), (true, "0")] {
        let script = CONTRAST.replace("DARK", &is_dark.to_string());
        let setting = format!("--blink-settings=preferredColorScheme={setting}");
        let result = inspected(&html, 1200, &script, &[&setting]);
        assert_eq!(result["problems"], serde_json::json!([]), "{result}");
        assert!(result["checked"].as_u64() > Some(100), "{result}");
    }
}

#[test]
fn the_page_begins_with_the_result_and_its_title_says_which_model_was_tested() {
    let mut report = report();
    report.tested.title = None;
    report.routes.truncate(1);
    "llama-3".clone_into(&mut report.routes[0].model);
    "2026-11-27T16:18:43Z".clone_into(&mut report.started);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    std::fs::write(&file, report::html(&report).unwrap()).unwrap();
    let (page, console) = open(&format!("file://{}", file.display()));
    assert_eq!(console, [""; 0]);
    let title = texts(&page, "title").remove(0);
    let outcome = serde_json::to_value(report.verdict.result).unwrap();
    let expected = format!("Load test of llama-3, 27 November 2026, 16:18 UTC: {outcome}");
    assert_eq!(title, without_spaces(&expected.replace('"', "")));
    let first = texts(&page, "h1").remove(0);
    assert!(!first.contains("llmloadrun"), "{first}");
    let items = texts(&page, "li");
    assert!(report.verdict.reasons.len() > 7, "{:?}", report.verdict.reasons);
    for reason in &report.verdict.reasons {
        assert!(items.contains(&without_spaces(&reason.text)), "{reason:?} is not in {items:?}");
    }
    let parts = texts(&page, "h3");
    let position = |name: &str| {
        let name = without_spaces(name);
        parts
            .iter()
            .position(|part| part.starts_with(&name))
            .unwrap_or_else(|| panic!("{name}: {parts:?}"))
    };
    let order = [
        "By level",
        "Objectives",
        "Findings",
        "Throughput and TTFT",
        "Output tokens per second",
        "Requests in flight",
        "TTFT over time",
        "Distribution of TTFT",
        "Failures by class",
        "Per request",
        "Totals",
        "Test setup",
        "Configuration",
    ];
    assert!(order.map(position).is_sorted(), "{parts:?}");
}
