//! The schemas say what reading does: the same keys and words everywhere, good files pass, faulty ones do not.

use std::path::{Path, PathBuf};

use boon::{Compiler, SchemaIndex, Schemas};
use clap::ValueEnum as _;
use phalanx_policy::toml_text::Text;
use phalanx_policy::{Diagnostic, RawPolicy, parse_expectations, parse_policy};
use serde_json::Value;

use super::SchemaOf;

/// One step from a file to something inside it.
#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Item,
}

/// What a schema says of a place: the keys that a table has, or the words that may stand there.
struct Said {
    steps: Vec<Step>,
    is_table: bool,
    names: Vec<String>,
}

/// What reading says of a text of this kind.
fn faults(file: SchemaOf, text: &str) -> Vec<Diagnostic> {
    match file {
        SchemaOf::Settings => crate::settings::read_text(Path::new("phalanx.toml"), text).1,
        SchemaOf::Policy => Text::new("policy.toml", text).read_partly::<RawPolicy>().1,
        SchemaOf::Test => {
            let policy = "[[apps]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n";
            let policy = parse_policy("policy.toml", policy).unwrap().0;
            parse_expectations("a.test.toml", text, &policy).err().unwrap_or_default()
        }
    }
}

#[test]
fn a_schema_has_the_keys_and_words_that_reading_knows() {
    for file in SchemaOf::value_variants() {
        let schema = file.schema();
        let mut said = Vec::new();
        look(&schema, &schema, &mut Vec::new(), &mut said);
        assert!(said.len() > 2, "{file:?}");
        for Said { steps, is_table, mut names } in said {
            let wrong = match is_table {
                true => toml::Value::Table([(NO_NAME.to_owned(), 1.into())].into_iter().collect()),
                false => NO_NAME.into(),
            };
            let text = toml::to_string(&wrapped(&steps, wrong)).unwrap();
            let found = faults(*file, &text);
            let fault = found.iter().find(|fault| fault.message.contains(NO_NAME));
            let fault = fault.unwrap_or_else(|| panic!("{file:?} reads {text}: {found:?}"));
            let help = fault.help.as_deref().and_then(|help| help.strip_prefix("known here: "));
            let mut known: Vec<_> = help.unwrap_or_else(|| panic!("{fault}")).split(", ").collect();
            known.sort_unstable();
            names.sort_unstable();
            assert_eq!(names, known, "{file:?}: {steps:?}");
        }
    }
}

/// A name that nothing has.
const NO_NAME: &str = "zzzzzzzzzzzzzzzz";

/// Collects the tables and choices of words below a place.
fn look(root: &Value, schema: &Value, steps: &mut Vec<Step>, said: &mut Vec<Said>) {
    let referred = schema.get("$ref").or_else(|| schema.get("allOf")?.get(0)?.get("$ref"));
    let schema = match referred.and_then(Value::as_str) {
        Some(path) => root.pointer(path.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let choices = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
    let words = |words: &[Value]| {
        words.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    };
    let listed = schema.get("enum").and_then(Value::as_array).and_then(|all| words(all));
    let of_choices = choices.and_then(|all| {
        all.iter()
            .map(|choice| Some(choice.get("const").or(choice.get("enum")?.get(0))?.as_str()?.to_owned()))
            .collect()
    });
    let consts = choices.and_then(|all| {
        all.iter().map(|choice| choice.get("const").and_then(Value::as_str).map(str::to_owned)).collect()
    });
    if let Some(names) = listed.or(consts).or(of_choices) {
        return said.push(Said { steps: steps.clone(), is_table: false, names });
    }
    for choice in choices.into_iter().flatten() {
        look(root, choice, steps, said);
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        assert_eq!(schema.get("additionalProperties"), Some(&Value::Bool(false)), "{steps:?}");
        said.push(Said { steps: steps.clone(), is_table: true, names: properties.keys().cloned().collect() });
        for (key, property) in properties {
            steps.push(Step::Key(key.clone()));
            look(root, property, steps, said);
            steps.pop();
        }
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        steps.push(Step::Key("x".to_owned()));
        look(root, values, steps, said);
        steps.pop();
    }
    if let Some(items) = schema.get("items") {
        steps.push(Step::Item);
        look(root, items, steps, said);
        steps.pop();
    }
}

fn wrapped(steps: &[Step], inner: toml::Value) -> toml::Value {
    steps.iter().rev().fold(inner, |inner, step| match step {
        Step::Key(key) => toml::Value::Table([(key.clone(), inner)].into_iter().collect()),
        Step::Item => toml::Value::Array(vec![inner]),
    })
}

/// Schemas that are ready to be asked.
struct Ready {
    schemas: Schemas,
    roots: Vec<(SchemaOf, SchemaIndex)>,
}

impl Ready {
    fn new(change: fn(&mut Value)) -> Self {
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        let mut roots = Vec::new();
        for file in SchemaOf::value_variants() {
            let mut schema = file.schema();
            change(&mut schema);
            let place = format!("json-schema:///{}.json", file.name());
            compiler.add_resource(&place, schema).unwrap();
            roots.push((*file, compiler.compile(&place, &mut schemas).unwrap()));
        }
        Self { schemas, roots }
    }

    /// Why a text is no file of this kind.
    fn refuses(&self, file: SchemaOf, value: &Value) -> Option<String> {
        let (_, root) = self.roots.iter().find(|(of, _)| *of == file).unwrap();
        self.schemas.validate(value, *root).err().map(|error| format!("{error:#}"))
    }
}

fn as_json(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(is) => (*is).into(),
        // As editors hand it to the schema.
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.iter().map(as_json).collect(),
        toml::Value::Table(table) => table
            .iter()
            .map(|(key, value)| (key.clone(), as_json(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn parsed(text: &str) -> Value {
    as_json(&toml::Value::Table(text.parse().unwrap_or_else(|error| panic!("{error}: {text}"))))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn good_files_pass() {
    let ready = Ready::new(|_| {});
    let mut found = Vec::new();
    files(&root().join("tests/blackbox/good"), &mut found);
    files(&root().join("deploy"), &mut found);
    let mut tried = 0;
    for path in found {
        let name = path.file_name().unwrap().to_str().unwrap();
        let file = match name {
            "phalanx.toml" => SchemaOf::Settings,
            "policy.toml" => SchemaOf::Policy,
            _ if name.ends_with(".test.toml") => SchemaOf::Test,
            _ => continue,
        };
        let text = std::fs::read_to_string(&path).unwrap().replace("{soon}", "2100-01-01");
        assert_eq!(ready.refuses(file, &parsed(&text)), None, "{}", path.display());
        tried += 1;
    }
    assert!(tried >= 22, "{tried}");
}

/// Takes out what must be there: an example in the guide shows a part of a file.
fn partly(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|key, value| key != "required" || !value.is_array());
            fields.values_mut().for_each(partly);
        }
        Value::Array(items) => items.iter_mut().for_each(partly),
        _ => {}
    }
}

/// `[[apps.routes]]` without the `[[apps]]` above it makes one table of what is a list.
fn as_lists(key: &str, value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.iter_mut().for_each(|(key, value)| as_lists(key, value));
        if ["apps", "routes"].contains(&key) {
            *value = Value::Array(vec![value.take()]);
        }
    }
}

/// Blocks of the guide that show another file: lists of networks and of crawlers, playbooks.
const OTHER_FILES: [&str; 5] = ["[[steps]]", "[ours]", "[duckduckbot]", "agents = ", "networks = "];

#[test]
fn examples_in_the_guide_pass() {
    let ready = Ready::new(partly);
    let mut pages = Vec::new();
    files(&root().join("docs"), &mut pages);
    let mut tried = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|ending| ending == "md")) {
        let text = std::fs::read_to_string(page).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            if OTHER_FILES.iter().any(|mark| block.contains(mark)) {
                continue;
            }
            tried += 1;
            let Value::Object(fields) = parsed(block) else { panic!("{block}") };
            // Some blocks show parts of two files.
            for (key, mut value) in fields {
                as_lists(&key, &mut value);
                let part = serde_json::json!({ key: value });
                // A file's part, or an app's, or a route's.
                let app = serde_json::json!({ "apps": [part] });
                let route = serde_json::json!({ "apps": [{ "routes": [part] }] });
                let mut refused: Vec<_> =
                    SchemaOf::value_variants().iter().map(|file| ready.refuses(*file, &part)).collect();
                refused.extend([&app, &route].map(|policy| ready.refuses(SchemaOf::Policy, policy)));
                let passes = refused.iter().any(Option::is_none);
                assert!(passes, "{}: no schema takes this:\n{part:#}\n{refused:#?}", page.display());
            }
        }
    }
    assert!(tried >= 30, "{tried}");
}

const APP: &str = "[[apps]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n";

#[test]
fn faulty_files_do_not_pass() {
    use SchemaOf::{Policy, Settings, Test};
    let ready = Ready::new(|_| {});
    let expected = "[[requests]]\nurl = \"http://a/\"\nexpect = { status = 200 }\n";
    let cases = [
        (Settings, "policy = \"p\"\n", ""),
        (Settings, "", "policy = \"p\"\n"),
        (Settings, "", "policy = 1\n"),
        (Settings, "policy = \"p\"\n", "polcy = \"p\"\n"),
        (Settings, "policy = \"p\"\n", "[node]\nworkers = \"4\"\n"),
        (Settings, "policy = \"p\"\n", "[node]\nworkers = -1\n"),
        (Settings, "policy = \"p\"\n", "[listen]\naddress = \"127.0.0.1:80\"\n"),
        (Settings, "policy = \"p\"\n", "[[listen.tls]]\nrequire_pq = true\n"),
        (Settings, "policy = \"p\"\n", "[trace]\nmode = \"on\"\n"),
        (Settings, "policy = \"p\"\n", "[log]\naccess_format = \"csv\"\n"),
        (Settings, "policy = \"p\"\n", "[[certificate]]\ncert = \"a.pem\"\n"),
        (Settings, "policy = \"p\"\n", "[webhooks.x]\nform = \"irc\"\n"),
        (Policy, APP, ""),
        (Policy, APP, "mode = \"blok\"\n"),
        (Policy, APP, "paranoia = \"high\"\n"),
        (Policy, APP, "upstream_tsl = {}\n"),
        (Policy, APP, "compression = { codings = [\"lzma\"] }\n"),
        (Policy, APP, "[apps.limits]\nbody = 5\n"),
        (Policy, APP, "[[apps.routes]]\nmethods = \"GET\"\n"),
        (Policy, APP, "[[apps.rate_limits]]\naction = \"refuse\"\n"),
        (Policy, "", "[strikes]\ncount = \"three\"\n"),
        (Policy, "", "version = 1.5\n"),
        (Test, expected, ""),
        (Test, expected, "times = \"often\"\n"),
        (Test, "", "[[requests]]\nurl = \"http://a/\"\n"),
        (Test, "", "[[requests]]\nurl = \"http://a/\"\nexpect = { action = \"block\" }\n"),
        (Test, "", "[[requests]]\nurl = \"http://a/\"\nexpect = { statuz = 200 }\n"),
    ];
    for (file, good, added) in cases {
        let text = format!("{good}{added}");
        let (refused, read) = (ready.refuses(file, &parsed(&text)), faults(file, &text));
        let is_good = added.is_empty() || added == "policy = \"p\"\n";
        assert_eq!(refused.is_none(), is_good, "{file:?} {text}: {refused:?}");
        assert_eq!(read.is_empty(), is_good, "{file:?} {text}: {read:?}");
    }
}
