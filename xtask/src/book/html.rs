//! Links of a folder of HTML pages: each leads to a page, and to a place on it, that there is.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::files;

/// What was found.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) pages: usize,
    pub(crate) links: usize,
    /// Links that lead nowhere, and what is loaded from elsewhere.
    pub(crate) faults: Vec<String>,
}

/// Looks at every link.
pub(crate) fn check(folder: &Path) -> anyhow::Result<Checked> {
    let mut pages = HashMap::new();
    let mut others = HashSet::new();
    for path in files(folder)? {
        let name = path.strip_prefix(folder)?.to_owned();
        match name.extension().is_some_and(|ending| ending == "html") {
            true => _ = pages.insert(name, fs::read_to_string(&path)?),
            false => _ = others.insert(name),
        }
    }
    let places: HashMap<&Path, HashSet<&str>> =
        pages.iter().map(|(name, text)| (name.as_path(), attributes(text, " id=\"").collect())).collect();
    let (mut links, mut faults) = (0, Vec::new());
    for (name, text) in &pages {
        for loaded in attributes(text, " src=\"").filter(|loaded| is_elsewhere(loaded)) {
            faults.push(format!("{}: loads {loaded}", name.display()));
        }
        // The page for what is not found refers to the book's own address.
        for link in
            attributes(text, " href=\"").filter(|link| !is_elsewhere(link) && !name.ends_with("404.html"))
        {
            links += 1;
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let to = if file.is_empty() { name.clone() } else { joined(name, file) };
            let is_there = match places.get(to.as_path()) {
                Some(places) => place.is_empty() || places.contains(place),
                None => others.contains(&to),
            };
            if !is_there {
                faults.push(format!("{}: `{link}` leads nowhere", name.display()));
            }
        }
    }
    faults.sort();
    Ok(Checked { pages: pages.len(), links, faults })
}

fn is_elsewhere(link: &str) -> bool {
    ["http:", "https:", "//", "mailto:", "data:", "javascript:"].iter().any(|start| link.starts_with(start))
}

/// Values of an attribute. The pages are a program's: each stands in quotes.
fn attributes<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(|rest| rest.split('"').next())
}

/// Where a link of a page leads.
fn joined(page: &Path, link: &str) -> PathBuf {
    let mut to = page.parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => _ = to.pop(),
            Component::Normal(name) => to.push(name),
            _ => {}
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_nowhere_are_told() {
        let folder = std::env::temp_dir().join(format!("phalanx-book-{}", std::process::id()));
        fs::create_dir_all(folder.join("guide")).unwrap();
        let page = "<h1 id=\"top\"></h1><a href=\"../a.html#here\"></a><a href=\"../a.html#gone\"></a><a href=\"b.html\"></a>\
                    <a href=\"#top\"></a><a href=\"https://example.org/\"></a><img src=\"https://example.org/x.png\">";
        fs::write(folder.join("guide/page.html"), page).unwrap();
        fs::write(folder.join("a.html"), "<p id=\"here\"></p>").unwrap();
        let checked = check(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let page = "guide/page.html";
        let expected = [
            format!("{page}: `../a.html#gone` leads nowhere"),
            format!("{page}: `b.html` leads nowhere"),
            format!("{page}: loads https://example.org/x.png"),
        ];
        assert_eq!((checked.pages, checked.links, checked.faults.as_slice()), (2, 4, expected.as_slice()));
    }
}
