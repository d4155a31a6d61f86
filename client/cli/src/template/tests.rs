//! A table of templates and what Go prints for them.

use engine_api::{Shown, Value, View, json};

struct Data(Value);

impl View for Data {
    fn view(&self) -> Shown<'_> {
        Shown::Json(&self.0)
    }
}

fn data() -> Data {
    let text = br#"{"Name":"/box","N":3,"Zero":0,"List":["a","b","c"],"Empty":[],"Nil":null,
        "Map":{"b":"2","a":"1"},"Deep":{"A":{"B":true}},"Quote":"<a&b>","Big":12345678901}"#;
    Data(json::parse(text).unwrap())
}

fn run(template: &str) -> String {
    match super::parse(template).and_then(|template| template.execute(&data())) {
        Ok(text) => text,
        Err(error) => error.to_string(),
    }
}

#[test]
fn templates_print_what_go_prints() {
    let table = [
        ("plain", "plain"),
        ("{{.Name}}-{{.N}}", "/box-3"),
        ("{{.List}} {{.Map}} {{.Deep}}", "[a b c] map[a:1 b:2] map[A:map[B:true]]"),
        ("{{.Nope}} {{.Nil}}", "<no value> <no value>"),
        ("{{.Big}}", "12345678901"),
        ("{{if .Nil}}y{{else}}n{{end}}{{if .Empty}}y{{else if .N}}e{{end}}", "ne"),
        ("{{range .List}}<{{.}}>{{end}}", "<a><b><c>"),
        ("{{range $i, $x := .List}}{{$i}}={{$x}} {{end}}", "0=a 1=b 2=c "),
        ("{{range $k, $v := .Map}}{{$k}}:{{$v}};{{end}}", "a:1;b:2;"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .List}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
        ("{{range .List}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{with .Deep.A}}{{.B}}{{end}}", "true"),
        ("{{$x := .Name}}{{$x}}{{$x = \"y\"}}{{$x}}", "/boxy"),
        ("a {{- .N -}} b", "a3b"),
        ("{{/* nothing */}}x", "x"),
        ("{{index .List 1}} {{index .Map \"b\"}}", "b 2"),
        ("{{len .List}} {{len .Name}}", "3 4"),
        ("{{slice .Name 1}} {{slice .List 1 2}}", "box [b]"),
        ("{{json .Map}} {{json .Quote}}", "{\"a\":\"1\",\"b\":\"2\"} \"<a&b>\""),
        ("{{join .List \",\"}} {{split \"x:y\" \":\"}}", "a,b,c [x y]"),
        ("{{upper .Name}} {{lower \"ABC\"}} {{title \"two words\"}}", "/BOX abc Two Words"),
        ("{{pad .Name 1 2}}| {{truncate .Name 2}}", " /box  | /b"),
        ("{{printf \"%s %5d|%-4s|%q\" .Name 7 \"x\" \"y\"}}", "/box     7|x   |\"y\""),
        ("{{.Name | printf \"%s!\" | upper}}", "/BOX!"),
        ("{{and .N .Name}} {{or .Zero \"d\"}} {{not .N}}", "/box d false"),
        ("{{define \"t\"}}[{{.}}]{{end}}{{template \"t\" .Name}}", "[/box]"),
        ("{{println \"a\" 1}}", "a 1\n"),
        ("{{print 1 2 \"x\" 3}}", "1 2x3"),
        ("{{(index .List 0) | upper}}", "A"),
        ("{{\"quo\\\"te\"}} {{`raw`}} {{'a'}}", "quo\"te raw 97"),
        ("{{html .Quote}}", "&lt;a&amp;b&gt;"),
        ("{{range 3}}{{.}}{{end}}", "012"),
    ];
    for (template, expected) in table {
        assert_eq!(run(template), expected, "{template}");
    }
}

#[test]
fn what_go_refuses_is_refused_with_its_text() {
    let table = [
        ("{{.Name", "template: :1: unclosed action"),
        ("{{nope .}}", "template: :1: function \"nope\" not defined"),
        ("{{if .N}}x", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{else}}", "template: :1: unexpected {{else}}"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{$x}}", "template: :1: undefined variable \"$x\""),
        ("\n{{\"a}}", "template: :2: unterminated quoted string"),
        (
            "{{.Name.X}}",
            "template: :1:7: executing \"\" at <.Name.X>: can't evaluate field X in type string",
        ),
        (
            "{{index .List 9}}",
            "template: :1:2: executing \"\" at <index .List 9>: error calling index: index out of range: 9",
        ),
        (
            "{{template \"t\"}}",
            "template: :1:11: executing \"\" at <{{template \"t\"}}>: template \"t\" not defined",
        ),
    ];
    for (template, expected) in table {
        assert_eq!(run(template), expected, "{template}");
    }
    let strict = super::parse("{{.Nope}}").unwrap().missing_key_fails();
    let error = strict.execute(&data()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""
    );
}

#[test]
fn fields_that_a_template_reads_are_known_before_it_runs() {
    let template = super::parse(
        "{{.ID}} {{if $.Size}}{{printf \"%s\" .Size}}{{end}}{{range .List}}{{.X}}{{end}}",
    )
    .unwrap();
    assert_eq!(template.fields_used(), ["ID", "List", "Size", "X"]);
}

#[test]
fn numbers_and_durations_print_as_go_prints_them() {
    use super::print::{duration, float};
    assert_eq!([float(1.5), float(0.0), float(1e21), float(1e-7)], ["1.5", "0", "1e+21", "1e-07"]);
    assert_eq!(
        [duration(0), duration(1_500_000), duration(90_000_000_000)],
        ["0s", "1.5ms", "1m30s"]
    );
    assert_eq!(duration(3_600_000_000_000), "1h0m0s");
}
