# tools/release: it refuses what cannot be released, and says why. --prepare writes a version into all files that name
# it. Equal commits give equal archives. All runs are in a clone.
use strict;
use warnings;
use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu::Process qw(run_command);

my $root = "$FindBin::Bin/..";
-e "$root/.git" && `git --version` or plan skip_all => 'a checkout and git are needed';

my $temp = tempdir(CLEANUP => 1);
my $clone = "$temp/clone";
# no configuration of this machine: it may sign commits, or change line ends
$ENV{GIT_CONFIG_GLOBAL} = $ENV{GIT_CONFIG_SYSTEM} = '/dev/null';
$ENV{"GIT_${_}_NAME"} = 'test', $ENV{"GIT_${_}_EMAIL"} = 'test@example' for qw(AUTHOR COMMITTER);
git($temp, '-c', 'safe.directory=*', 'clone', '--quiet', '--depth=1', "file://" . real($root), $clone);
# the programs under test are those of the working directory
system('cp', '-r', "$root/tools", "$root/scripts", "$root/packaging", $clone) == 0 or die "cp\n";
mkdir "$clone/debian";
spew('debian/changelog', <<'END') if !-e "$clone/debian/changelog";
request-cpu (0.1.0-1) unstable; urgency=medium

  * First package.

 -- Somebody <somebody@example>  Sat, 31 Jan 2026 12:00:00 +0000
END
commit('the programs of the working directory');

sub real { require Cwd; return Cwd::realpath($_[0]) }

sub git {
    my ($dir, @arguments) = @_;
    my ($status, $output) = run_command('git', '-C', $dir, @arguments);
    $status == 0 or die "git @arguments: $output\n";
    return $output;
}

sub commit {
    git($clone, 'add', '--all');
    git($clone, 'commit', '--quiet', '--allow-empty', '-m', $_[0]);
    return;
}

sub release { return run_command("$clone/tools/release", @_) }

sub slurp {
    open my $file, '<:raw', "$clone/$_[0]" or die "$_[0]: $!\n";
    local $/;
    return <$file>;
}

sub spew {
    my ($path, $text) = @_;
    open my $file, '>:raw', "$clone/$path" or die "$path: $!\n";
    print {$file} $text;
    close $file or die "$path: $!\n";
    return;
}

sub edit {
    my ($path, $change) = @_;
    local $_ = slurp($path);
    $change->();
    spew($path, $_);
    return;
}

sub refuses {
    my ($title, $expected, @arguments) = @_;
    my ($status, $output) = release(@arguments);
    is($status, 1, "$title: refused");
    like($output, $expected, "$title: the reason");
    ok(!-e "$clone/target", "$title: nothing is made");
    return;
}

refuses('no version', qr/the version is missing/);
refuses('no number', qr/"1\.2" is not a version/, '1.2');
refuses('a leading zero', qr/"1\.02\.3" is not a version/, '1.02.3');
refuses('an unknown part', qr/no part "everything"/, '9.8.7', 'everything');
refuses('an unknown option', qr/unknown argument "--push"/, '--push', '9.8.7');
refuses('a version that Cargo.toml does not have', qr/Cargo\.toml says version \S+, not 9\.8\.7/, '9.8.7');

my ($status, $output) = release('--prepare', '9.8.7');
is($status, 0, '--prepare') or diag($output);
is_deeply([ sort split /\n/, git($clone, 'diff', '--name-only') ],
    [ sort qw(CHANGELOG.md Cargo.lock Cargo.toml debian/changelog packaging/alpine/APKBUILD packaging/rpm/nginx-module-request-cpu.spec) ],
    '--prepare changes all files that name the version');
my $diff = git($clone, 'diff');
my @places = $diff =~ /^-.*version.* = "|^-pkgver=|^-%global module_version /mg;
is(@places, 8, '--prepare changes each place: one in three files, and the five crates of Cargo.lock') or diag($diff);
like(slurp('debian/changelog'), qr/\A\S+ \(9\.8\.7-1\) .*^ -- \S.*>  .*\n\n\S+ \(/ms, 'an entry for Debian');
like(slurp('CHANGELOG.md'), qr/^## \[Unreleased\]\n\n## \[9\.8\.7\] - \d{4}-\d\d-\d\d\n/m, 'a section with a date');
refuses('changes that are not committed', qr/changes that are not committed:\n M CHANGELOG\.md/, '9.8.7');
commit('prepared');

edit('CHANGELOG.md', sub { s/^The first release.*is in preparation\.\n\n//m });
edit('CHANGELOG.md', sub { s/(?<=^## \[9\.8\.7\]) - .*//m });
commit('no date');
refuses('a section without a date', qr/CHANGELOG\.md has "## \[9\.8\.7\]", not "## \[9\.8\.7\] - DATE"/, '9.8.7');
edit('CHANGELOG.md', sub { s/^## \[9\.8\.7\]/## [9.8.6] - 2026-01-31/m });
commit('no section');
refuses('no section', qr/CHANGELOG\.md has no section "## \[9\.8\.7\]/, '9.8.7');
edit('CHANGELOG.md', sub { s/^## \[9\.8\.6\]/## [9.8.7] - 2026-01-31\n\n$&/m });
commit('an empty section');
refuses('an empty section', qr/section for 9\.8\.7 in CHANGELOG\.md is empty/, '9.8.7');
edit('CHANGELOG.md', sub { s/^## \[9\.8\.7\] - 2026-01-31\n/$&\nThis release is in preparation.\n/m });
commit('a section that is not finished');
refuses('a section that is not finished', qr/says "in preparation"/, '9.8.7');
edit('CHANGELOG.md', sub { s/^This release is in preparation\.$/- Something new./m });
for my $file (
    'debian/changelog', 'packaging/alpine/APKBUILD', 'packaging/rpm/nginx-module-request-cpu.spec', 'Cargo.lock')
{
    edit($file, sub { s/9\.8\.7/9.8.6/ });
    commit('another version in one file');
    refuses("another version in $file", qr/\Q$file\E says version 9\.8\.6, not 9\.8\.7/, '9.8.7');
    edit($file, sub { s/9\.8\.6/9.8.7/ });
}
commit('all is well');
($status, $output) = release('--check', '9.8.7');
is($status, 0, '--check') or diag($output);
ok(!-e "$clone/target", '--check makes nothing');
spew('new-file', '');
refuses('a file that git does not know', qr/\?\? new-file/, '9.8.7');
unlink "$clone/new-file";
git($clone, 'tag', 'v9.8.7', 'HEAD~1');
refuses('the tag of another commit', qr/v9\.8\.7 is already the tag of another commit/, '9.8.7');
git($clone, 'tag', '-d', 'v9.8.7');

my %sums;
for my $time (1, 2) {
    ($status, $output) = release('9.8.7', 'source');
    is($status, 0, "release $time") or diag($output);
    ($status, $output) = run_command('sh', '-c', 'cd "$0/target/release-9.8.7" && sha256sum -c SHA256SUMS', $clone);
    is($status, 0, 'checksums') or diag($output);
    is($output, "ngx-http-request-cpu-9.8.7.tar.gz: OK\n", 'only the archive is made');
    $sums{ slurp('target/release-9.8.7/SHA256SUMS') } = 1;
    # an archive knows the time of the commit, not the time at which it was made
    sleep 1.1 if $time == 1;
}
is(keys %sums, 1, 'equal commits give equal archives');
is(git($clone, 'tag'), '', 'nothing is tagged');

($status, $output) = release('9.8.7', '--tag', 'source');
is($status, 0, '--tag') or diag($output);
is(git($clone, 'rev-parse', 'v9.8.7^{commit}'), git($clone, 'rev-parse', 'HEAD'), '--tag tags the commit');
($status, $output) = run_command('tar', '-tzf', "$clone/target/release-9.8.7/ngx-http-request-cpu-9.8.7.tar.gz");
like($output, qr{^ngx-http-request-cpu-9\.8\.7/scripts/build$}m, 'the archive has a folder with the version');

done_testing;
