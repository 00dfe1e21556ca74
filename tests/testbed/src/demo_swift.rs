//! The story of a file that is an object: the client of Swift at `nginx-conf/static-swift.conf`,
//! with tokens of a real Keystone.

use std::fs;
use std::path::{Path, PathBuf};

use keystone_testbed::http::Response;
use keystone_testbed::keystone::{python, Keystone};
use keystone_testbed::nginx::{was_built_with, Nginx};
use keystone_testbed::sample::{auto, Sample};
use keystone_testbed::swift::{Client, Output};
use keystone_testbed::temp::TempDir;

use super::curl::curl;
use super::story::{has_audience, wait_for_interrupt, Story};
use super::Failure;

/// Plays it; `false` when an answer was wrong.
pub(super) fn play() -> Result<bool, Failure> {
    let mut stage = Stage::set(Story::begin()?)?;
    stage.story()?;
    let right = stage.story.end(&stage.nginx);
    if right && has_audience() {
        stage.stay()?;
    }
    Ok(right)
}

struct Stage {
    keystone: Keystone,
    nginx: Nginx,
    /// The account of project demo.
    account: String,
    home: TempDir,
    story: Story,
}

impl Stage {
    fn set(story: Story) -> Result<Self, Failure> {
        if !was_built_with("--with-http_dav_module") {
            return Err("this nginx cannot write files: it was built without its DAV module".into());
        }
        println!("Starting a real Keystone.");
        let keystone = Keystone::start()?;
        println!("It listens on {}.", keystone.uri());

        let sample = Sample::static_swift(&keystone);
        let objects = sample.dir().join("objects");
        let nginx = sample.start(auto());
        println!("nginx, with nginx-conf/static-swift.conf, is http://{}.", nginx.address());
        println!("It keeps objects in {}.", objects.display());
        let account = format!("AUTH_{}", keystone.project("demo")?);
        Ok(Self { keystone, nginx, account, home: TempDir::new("home")?, story })
    }

    fn story(&mut self) -> Result<(), Failure> {
        let file = self.objects().join("v1").join(&self.account).join("post/letter.txt");
        self.within_a_project(&file)?;
        self.for_everybody()?;
        self.for_another_project()?;

        self.story.title("alice deletes the letter.")?;
        self.does("alice", &["delete", "post", "letter.txt"], "letter.txt")?;
        self.story.check(!file.exists(), "the file is still there");
        self.does_not("alice", &["stat", "post", "letter.txt"], "404 Not Found")
    }

    fn within_a_project(&mut self, file: &Path) -> Result<(), Failure> {
        fs::write(self.home.join("letter.txt"), LETTER)?;

        self.story.title("alice, a member of project demo, uploads a letter.")?;
        self.does("alice", &["upload", "post", "letter.txt"], "letter.txt")?;
        println!("    It is {}.", file.display());
        println!("    ACCOUNT={}", self.storage());
        let same = fs::read_to_string(file).is_ok_and(|text| text == LETTER);
        self.story.check(same, "the file holds something else");

        self.story.title("alice lists and reads it.")?;
        self.does("alice", &["list"], "post")?;
        self.does("alice", &["list", "post"], "letter.txt")?;
        self.does("alice", &["stat", "post", "letter.txt"], "Content Length: 30")?;

        self.story.title("bob, a reader of the project, reads it but cannot change it.")?;
        self.does("bob", &["download", "post", "letter.txt", "-o", "-"], LETTER.trim_end())?;
        self.does_not("bob", &["upload", "post", "letter.txt"], "403 Forbidden")?;
        self.does_not("bob", &["delete", "post", "letter.txt"], "403 Forbidden")?;

        self.story.title("carol belongs to another project.")?;
        self.does_not("carol", &["download", "post", "letter.txt", "-o", "-"], "403 Forbidden")?;
        self.does_not("carol", &["list", "post"], "403 Forbidden")?;

        self.story.title("A request without a token is refused.")?;
        let answer = self.curl(&[URL])?;
        self.story.expect_status(&answer, 401);
        let challenge = format!("Keystone uri=\"{}\"", self.keystone.uri());
        self.story.expect("WWW-Authenticate", answer.header("WWW-Authenticate"), Some(&challenge));
        Ok(())
    }

    fn for_everybody(&mut self) -> Result<(), Failure> {
        self.story.title("An administrator makes the container public, with Swift's syntax.")?;
        self.share(r#"{"read": ".r:*"}"#)?;
        let answer = self.curl(&[URL])?;
        self.story.expect_status(&answer, 200);
        self.story.check(answer.body == LETTER.as_bytes(), "it is another letter");
        let answer = self.curl(&["-r", "0-8", URL])?;
        self.story.expect_status(&answer, 206);
        self.story.check(answer.body == LETTER.as_bytes()[..9], "it is another part");
        self.does("carol", &["download", "post", "letter.txt", "-o", "-"], LETTER.trim_end())?;

        self.story.title("It cannot be listed, and other users cannot write.")?;
        let answer = self.curl(&[CONTAINER])?;
        self.story.expect_status(&answer, 401);
        let answer = self.curl(&["-T", "/etc/hostname", URL])?;
        self.story.expect_status(&answer, 401);
        self.does_not("carol", &["upload", "post", "letter.txt"], "403 Forbidden")
    }

    fn for_another_project(&mut self) -> Result<(), Failure> {
        self.story.title("Now it is shared with the project of carol only.")?;
        let other = self.keystone.project("other")?;
        self.share(&format!(r#"{{"read": "{other}:*", "write": "{other}:*"}}"#))?;
        let answer = self.curl(&[URL])?;
        self.story.expect_status(&answer, 401);
        let answer = "Dear Alice,\nthank you.\nCarol\n";
        fs::write(self.home.join("answer.txt"), answer)?;
        self.does("carol", &["upload", "post", "answer.txt"], "answer.txt")?;
        self.does("alice", &["download", "post", "answer.txt", "-o", "-"], answer.trim_end())?;

        self.story.title("A path that leaves the container is refused.")?;
        for path in ["../../AUTH_other/private/o", "../../../.acl/post"] {
            let url = format!("{CONTAINER}/{path}");
            let answer = self.curl(&["--path-as-is", &url])?;
            self.story.check(matches!(answer.status, 400 | 404), "it leads somewhere");
        }
        Ok(())
    }

    /// Shows and runs the client, which must do it and say `words`.
    fn does(&mut self, user: &str, words: &[&str], told: &str) -> Result<(), Failure> {
        let output = self.swift(user, words)?;
        self.story.check(output.code == 0, &format!("the exit code is {}", output.code));
        self.story.check(output.stdout.contains(told), &format!("it does not say {told:?}"));
        Ok(())
    }

    /// Shows and runs the client, which must fail and say `words`.
    fn does_not(&mut self, user: &str, words: &[&str], told: &str) -> Result<(), Failure> {
        let output = self.swift(user, words)?;
        self.story.check(output.code != 0, "it succeeds");
        self.story.check(output.stderr.contains(told), &format!("it does not say {told:?}"));
        Ok(())
    }

    fn swift(&self, user: &str, words: &[&str]) -> Result<Output, Failure> {
        let project = if user == "carol" { "other" } else { "demo" };
        let client = Client::with_password(&self.storage(), &self.keystone, user, project)?;
        let output = client.run_in(self.home.path(), words)?;
        println!("  {user}> swift {}", words.join(" "));
        for line in output.stdout.lines().chain(output.stderr.lines()) {
            println!("  < {}", line.replace(&self.storage(), "$ACCOUNT"));
        }
        Ok(output)
    }

    fn curl(&self, words: &[&str]) -> Result<Response, Failure> {
        curl(words, &[("$ACCOUNT", &self.storage())])
    }

    /// What an administrator of the store does.
    fn share(&self, acls: &str) -> Result<(), Failure> {
        let file = self.objects().join(".acl").join(&self.account).join("post");
        println!("  # echo '{acls}' > {}", file.display());
        fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
        Ok(fs::write(file, acls)?)
    }

    fn objects(&self) -> PathBuf {
        self.nginx.dir().join("objects")
    }

    fn storage(&self) -> String {
        format!("http://{}/v1/{}", self.nginx.address(), self.account)
    }

    /// Stays until Ctrl-C, for the user to try things.
    fn stay(&self) -> Result<(), Failure> {
        let token = self.nginx.dir().join("token");
        fs::write(&token, self.keystone.token("alice")?)?;
        let swift = python()?.with_file_name("swift");
        println!("\nAll of it keeps running until Ctrl-C. Try:\n");
        println!("  export OS_STORAGE_URL={}", self.storage());
        println!("  export OS_AUTH_TOKEN=$(cat {})", token.display());
        println!("  {} upload post /etc/services", swift.display());
        println!("  curl -i -H \"X-Auth-Token: $OS_AUTH_TOKEN\" $OS_STORAGE_URL/post");
        println!("  tail -f {}", self.nginx.dir().join("error.log").display());
        wait_for_interrupt();
        Ok(())
    }
}

const LETTER: &str = "Dear Bob,\nall the best,\nAlice\n";
const CONTAINER: &str = "$ACCOUNT/post";
const URL: &str = "$ACCOUNT/post/letter.txt";
