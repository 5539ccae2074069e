//! The book: its chapters, the commands that it shows, and the names of metrics, codes and messages.

use std::{collections::BTreeSet, fs, path::Path};

use rpc_core::Code;

use crate::{
    documents::{inline_code, outline},
    sources::{FILES, LANGUAGES, Package, chapters_in, libraries, members, read, root, rust_files, shown},
};

/// Returns the names of the chapters in a language, without the list of contents; none if it does not exist.
fn chapters(language: &str) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(root().join(chapters_in(language))) else { return BTreeSet::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".md").map(str::to_owned)).filter(|name| name != "SUMMARY").collect()
}

/// Returns the paths and the texts of all chapters in all languages.
fn texts() -> Vec<(String, String)> {
    let paths = LANGUAGES.iter().flat_map(|language| {
        chapters(language).into_iter().map(move |name| format!("{}/{name}.md", chapters_in(language)))
    });
    paths.map(|path| (path.clone(), read(path))).collect()
}

#[test]
fn chapters_are_listed_and_are_doctests() {
    let english = chapters("en");
    assert!(english.len() > 15);
    let doctests = read("tests/book.rs");
    for language in LANGUAGES.iter().filter(|language| !chapters(language).is_empty()) {
        assert_eq!(chapters(language), english, "{language}");
        let summary = read(format!("{}/SUMMARY.md", chapters_in(language)));
        assert!(doctests.contains(&format!("\"../{}/\"", chapters_in(language))), "tests/book.rs has no {language}");
        for name in &english {
            assert!(summary.contains(&format!("({name}.md)")), "{language}: SUMMARY.md does not list {name}");
            assert!(doctests.contains(&format!("\"{name}\"")), "tests/book.rs does not list {name}");
        }
    }
}

#[test]
fn languages_have_the_same_sections_tables_and_code() {
    for name in chapters("zh") {
        let [english, chinese] = LANGUAGES.map(|language| outline(&format!("{}/{name}.md", chapters_in(language))));
        assert_eq!(english, chinese, "{name}");
    }
}

/// Returns the commands of the `sh` blocks of a chapter, and its inline code that begins with one.
fn commands(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let (mut is_shell, mut continues) = (false, false);
    for line in text.lines() {
        if line.starts_with("```") {
            is_shell = line == "```sh";
        } else if is_shell {
            let part = line.trim().trim_end_matches('\\');
            match found.last_mut() {
                Some(command) if continues => *command += &format!(" {part}"),
                _ => found.extend(part.split(['|', ';']).map(|command| command.trim().to_owned())),
            }
            continues = line.ends_with('\\');
        }
    }
    found.extend(inline_code(text));
    for command in &mut found {
        while let Some((_, rest)) = command.split_once(' ').filter(|(first, _)| is_assignment(first)) {
            *command = rest.to_owned();
        }
    }
    found.retain(|command| ["cargo ", "msnb "].iter().any(|program| command.starts_with(program)));
    found
}

/// Returns whether the word of a command sets a variable.
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
}

/// Returns the value of an option in a command.
fn value<'a>(words: &[&'a str], option: &str) -> Option<&'a str> {
    words.iter().position(|word| *word == option).and_then(|at| words.get(at + 1)).copied()
}

/// Returns the problem of a command that names a package, a target, a feature, a subcommand or an option that does not
/// exist.
fn problem(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split(" #").next().unwrap().split_whitespace().collect();
    let end = words.iter().position(|word| *word == "--").unwrap_or(words.len());
    let (own, passed) = (&words[..end], words.get(end + 1..).unwrap_or_default());
    match own {
        ["msnb", subcommand, ..] => problem_of_msnb(subcommand, own),
        ["cargo", "install", ..] => {
            let path = value(own, "--path")?;
            (!root().join(path).is_dir()).then(|| format!("no directory {path}"))
        }
        ["cargo", "run" | "test" | "doc", ..] => problem_of_cargo(own, passed).err(),
        _ => None,
    }
}

fn problem_of_msnb(subcommand: &str, words: &[&str]) -> Option<String> {
    // Placeholders are in upper case.
    if !subcommand.starts_with(|c: char| c.is_ascii_lowercase()) {
        return None;
    }
    let variant = format!("    {}{}(", subcommand[..1].to_ascii_uppercase(), &subcommand[1..]);
    if !read("msnb-cli/src/main.rs").contains(&variant) {
        return Some(format!("no subcommand {subcommand}"));
    }
    missing_option(words, &root().join("msnb-cli/src"))
}

/// Checks the `own` words of a command of Cargo, and those that Cargo passes on.
fn problem_of_cargo(own: &[&str], passed: &[&str]) -> Result<(), String> {
    let package = value(own, "-p").map(package_named).transpose()?;
    if let Some(test) = value(own, "--test") {
        let exists = package.is_some_and(|package| package.targets.iter().any(|target| target.is("test", test)));
        return if exists { Ok(()) } else { Err(format!("no test {test}")) };
    }
    let Some(program) = value(own, "--bin") else { return Ok(()) };
    let has_program = |package: &&Package| package.targets.iter().any(|target| target.is("bin", program));
    let owner = package.map_or_else(|| members().find(has_program), |package| Some(package).filter(has_program));
    let owner = owner.ok_or(format!("no program {program}"))?;
    let declared = fs::read_to_string(&owner.manifest_path).unwrap();
    let mut features = value(own, "--features").into_iter().flat_map(|features| features.split(','));
    match features.find(|feature| !declared.contains(&format!("\n{feature} = ["))) {
        Some(feature) => Err(format!("no feature {feature} of {program}")),
        None => missing_option(passed, owner.directory()).map_or(Ok(()), Err),
    }
}

/// Returns the package of the workspace with this name in its manifest.
fn package_named(name: &str) -> Result<&'static Package, String> {
    let line = format!("[package]\nname = \"{name}\"\n");
    let mut packages = members();
    let package = packages.find(|package| fs::read_to_string(&package.manifest_path).unwrap().contains(&line));
    package.ok_or(format!("no package {name}"))
}

/// Returns the first option that no source in `folder` or in rpc-cli declares, as a field or as a text.
fn missing_option(words: &[&str], folder: &Path) -> Option<String> {
    let sources = [rust_files(folder), rust_files(&root().join("rpc-cli/src"))].concat();
    let mut options = words.iter().filter_map(|word| word.strip_prefix("--"));
    let absent = options.find(|option| {
        let (field, text) = (format!(" {}: ", option.replace('-', "_")), format!("\"{option}\""));
        *option != "help" && !sources.iter().any(|(_, source)| source.contains(&field) || source.contains(&text))
    });
    absent.map(|option| format!("no option --{option}"))
}

#[test]
fn commands_in_the_book_exist() {
    let mut problems = Vec::new();
    let mut count = 0;
    for (path, text) in texts() {
        for command in commands(&text) {
            count += 1;
            problems.extend(problem(&command).map(|problem| format!("{path}: {problem}: {command}")));
        }
    }
    assert!(count > 50, "{count} commands");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn commands_that_do_not_exist_are_found() {
    let text =
        "a\n```sh\ncargo run --bin \\\n    x -- --y\necho a | A=b cargo test -p tests\n```\n`msnb ls` and `msnb`";
    assert_eq!(commands(text), ["cargo run --bin x -- --y", "cargo test -p tests", "msnb ls"]);
    for command in [
        "cargo run --bin provider --features tls -- --tls-cert a --registry b",
        "cargo run -p msnb-im --bin im-node -- --hash ann",
        "cargo run -- provide A",
        "cargo test -p tests --test registry",
        "msnb drill rolling --call a/b -- provider --no-option-of-msnb",
    ] {
        assert_eq!(problem(command), None, "{command}");
    }
    for command in [
        "cargo run --bin nothing",
        "cargo run -p nothing --bin provider",
        "cargo run --bin provider --features nothing",
        "cargo run --bin provider -- --nothing",
        "cargo test -p tests --test nothing",
        "cargo install --path nothing",
        "msnb nothing",
        "msnb ls --nothing",
    ] {
        assert!(problem(command).is_some(), "{command}");
    }
}

#[test]
fn metrics_in_the_book_exist() {
    let sources = rust_files(&root().join("rpc-layers/src/metrics"));
    let is_quoted = |name: &str| sources.iter().any(|(_, text)| text.contains(&format!("\"{name}\"")));
    let mut missing = Vec::new();
    for (path, text) in texts() {
        let names = text
            .split(|c: char| !c.is_ascii_lowercase() && c != '_')
            .filter(|word| word.starts_with("msnb_server_") || word.starts_with("msnb_client_"));
        for name in names {
            let base = name.strip_suffix("_total").or(name.strip_suffix("_seconds")).unwrap_or(name);
            let of_calls = base.split_at("msnb_server_".len()).1;
            if !is_quoted(base) && !is_quoted(of_calls) {
                missing.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn error_index_has_all_codes_and_existing_messages() {
    // The texts of the libraries, in which a line that ends with a backslash continues.
    let mut sources = String::new();
    for (path, text) in FILES.iter() {
        if libraries().any(|package| path.starts_with(package.directory())) {
            let mut lines = text.split("\\\n");
            sources += lines.next().unwrap();
            lines.for_each(|line| sources += line.trim_start());
        }
    }
    for language in LANGUAGES.iter().filter(|language| !chapters(language).is_empty()) {
        let path = format!("{}/error-index.md", chapters_in(language));
        let text = read(&path);
        let mut sections = text.split("\n## ").skip(1);
        let codes = inline_code(sections.next().unwrap());
        for number in (1..=16).chain([32]) {
            let name = format!("{:?}", Code::from_u8(number));
            assert!(codes.contains(&name), "{path}: {name} is missing");
        }
        let rows = sections.flat_map(|section| section.lines().filter(|line| line.starts_with("| `")));
        let mut count = 0;
        for row in rows {
            for message in inline_code(row.split(" | ").next().unwrap()) {
                count += 1;
                let parts = message.split('…').map(str::trim).filter(|part| part.len() > 2);
                for part in parts {
                    assert!(sources.contains(part), "{}: no source has the text {part:?}", shown(Path::new(&path)));
                }
            }
        }
        assert!(count > 50, "{count} messages");
    }
}
