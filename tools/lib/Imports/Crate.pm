# The files of one crate, and their imports of each other.
package Imports::Crate;

use strict;
use warnings;
use File::Find qw(find);
use Imports::Source;
use Tool qw(slurp);

# new($folder): reads every file below the folder of sources.
sub new {
    my ($class, $folder) = @_;
    my $self = bless { folder => $folder, modules => {}, files => [] }, $class;
    my @files;
    find({ no_chdir => 1, wanted => sub { push @files, $_ if /\.rs$/ && -f } }, $folder);
    my %known = map { $_ => 1 } @files;
    my ($start) = grep { $known{$_} } "$folder/lib.rs", "$folder/main.rs";
    defined $start or die "$folder has no lib.rs and no main.rs\n";
    $self->file($start, \%known);
    $self->arrows;
    return $self;
}

# Reads one file and the modules that it declares. Files of tests are declared under cfg(test), so they are not found.
sub file {
    my ($self, $path, $known, @module) = @_;
    push @{ $self->{files} }, $path;
    Imports::Source::parse($self->{modules}, $path, slurp($path), @module);
    my $below = join '::', @module;
    for my $name (sort keys %{ $self->{modules} }) {
        my $module = $self->{modules}{$name};
        next if $module->{file} ne $path;
        for my $child (sort grep { $module->{children}{$_} eq 'file' } keys %{ $module->{children} }) {
            my @name = (@{ $module->{name} }, $child);
            my $place = join '/', $self->{folder}, @name;
            my ($file) = grep { $known->{$_} } "$place.rs", "$place/mod.rs";
            if (!$file) { delete $module->{children}{$child}; next }
            $self->file($file, $known, @name);
        }
    }
    return;
}

# The layer of a file: the first part of its name below the folder.
sub layer {
    my ($self, $file) = @_;
    my ($layer) = $file =~ m{^\Q$self->{folder}\E/([^/]+?)(?:\.rs)?(?:/|$)};
    return $layer;
}

sub name {
    my ($self, $file) = @_;
    return substr $file, length($self->{folder}) + 1;
}

# arrows: {from file}{to file} = [[line, import], …]. Imports within a file are left out.
sub arrows {
    my ($self) = @_;
    for my $module (map { $self->{modules}{$_} } sort keys %{ $self->{modules} }) {
        for my $import (@{ $module->{imports} }) {
            my ($line, $text, $kind, @path) = @$import;
            my $to = $self->resolve($module, $kind, 0, @path) or next;
            next if $to->{file} eq $module->{file};
            my $known = $self->{arrows}{ $module->{file} }{ $to->{file} } ||= [];
            push @$known, [ $line, $text ] unless @$known && $known->[-1][0] == $line && $known->[-1][1] eq $text;
        }
    }
    for my $from (values %{ $self->{arrows} }) { @$_ = sort { $a->[0] <=> $b->[0] } @$_ for values %$from }
    return;
}

# The module that defines the item of a path; nothing if the path leads out of the crate. A name that a module only
# re-exports (pub use) is looked up in the module that defines it.
sub resolve {
    my ($self, $module, $kind, $depth, @path) = @_;
    return if $depth > 20 || !@path;
    my $first = $path[0];
    my $at;
    if ($first eq 'crate') { $at = $self->{modules}{''}; shift @path }
    elsif ($first eq 'self') { $at = $module; shift @path }
    elsif ($first eq 'super') {
        my @name = @{ $module->{name} };
        while (@path && $path[0] eq 'super') { pop @name; shift @path }
        $at = $self->{modules}{ join '::', @name };
    }
    # the first word of another path is a module of this module, or a name that this module imports; an imported name
    # is counted at its `use`
    elsif ($module->{children}{$first}) { $at = $module }
    elsif ($kind eq 'use' && $module->{renames}{$first} && "@{ $module->{renames}{$first} }" ne "@path") {
        return $self->resolve($module, $kind, $depth + 1, @{ $module->{renames}{$first} }, @path[ 1 .. $#path ]);
    }
    else { return }
    return $at ? $self->walk($at, $depth, @path) : undef;
}

sub walk {
    my ($self, $at, $depth, @path) = @_;
    while (defined(my $word = shift @path)) {
        if ($at->{children}{$word}) { $at = $self->{modules}{ join '::', @{ $at->{name} }, $word } or return; next }
        return $at if $at->{defines}{$word};
        if (my $rename = $at->{renames}{$word}) {
            # this module re-exports a name of another crate: the user of the name depends on this module
            return $self->resolve($at, 'use', $depth + 1, @$rename, @path) || $at;
        }
        for my $glob (@{ $at->{globs} }) {
            my $from = $self->resolve($at, 'use', $depth + 1, @$glob) or next;
            return $self->walk($from, $depth + 1, $word, @path) if $depth < 20 && $self->has($from, $word);
        }
        return $at;
    }
    return $at;
}

sub has {
    my (undef, $module, $word) = @_;
    return $module->{children}{$word} || $module->{defines}{$word} || $module->{renames}{$word};
}

# Circles: groups of files in which each file reaches each other file (Tarjan's algorithm), largest group first.
sub circles {
    my ($self) = @_;
    my (%index, %low, %on_stack, @stack, @circles);
    my $visit;
    $visit = sub {
        my ($file) = @_;
        $index{$file} = $low{$file} = keys %index;
        push @stack, $file;
        $on_stack{$file} = 1;
        for my $to (sort keys %{ $self->{arrows}{$file} || {} }) {
            if (!defined $index{$to}) {
                $visit->($to);
                $low{$file} = $low{$to} if $low{$to} < $low{$file};
            }
            elsif ($on_stack{$to} && $index{$to} < $low{$file}) { $low{$file} = $index{$to} }
        }
        return if $low{$file} != $index{$file};
        my @group;
        while (defined(my $member = pop @stack)) {
            delete $on_stack{$member};
            push @group, $member;
            last if $member eq $file;
        }
        push @circles, [ sort @group ] if @group > 1;
    };
    defined $index{$_} or $visit->($_) for sort @{ $self->{files} };
    undef $visit;
    return sort { @$b <=> @$a || $a->[0] cmp $b->[0] } @circles;
}

# A shortest circle inside of a group: [file, line, import, file], …
sub around {
    my ($self, @group) = @_;
    my %group = map { $_ => 1 } @group;
    my $best;
    for my $start (@group) {
        my @queue = ([$start]);
        my %seen;
        while (my $way = shift @queue) {
            last if $best && @$way >= @$best;
            for my $to (sort grep { $group{$_} } keys %{ $self->{arrows}{ $way->[-1] } || {} }) {
                if ($to eq $start) { $best = [ @$way, $start ] if !$best || @$way + 1 < @$best; next }
                push @queue, [ @$way, $to ] unless $seen{$to}++;
            }
        }
    }
    my @steps;
    for my $at (0 .. $#$best - 1) {
        my ($from, $to) = @$best[ $at, $at + 1 ];
        push @steps, [ $from, @{ $self->{arrows}{$from}{$to}[0] }, $to ];
    }
    return @steps;
}

# Imports that the list of layers does not allow: [file, line, import, to file]
sub upward {
    my ($self, $allowed) = @_;
    my @upward;
    for my $from (sort keys %{ $self->{arrows} || {} }) {
        for my $to (sort keys %{ $self->{arrows}{$from} }) {
            my ($above, $below) = map { $self->layer($_) } $from, $to;
            next if $above eq $below || $allowed->{$above}{'*'} || $allowed->{$above}{$below};
            push @upward, map { [ $from, @$_, $to ] } @{ $self->{arrows}{$from}{$to} };
        }
    }
    return @upward;
}

1;
