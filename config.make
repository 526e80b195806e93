# NGINX's ./configure reads this file after it has written objs/Makefile. The file adds the rules for this module.
# make calls cargo if a source of the module is newer than the result; so a `make install` after `make` does not call
# it.

request_cpu_source=$(cd "$ngx_addon_dir" && pwd)
request_cpu_objs=$(cd "$NGX_OBJS" && pwd)
request_cpu_library=ngx_http_request_cpu_module.so
request_cpu_deps=$(cd "$request_cpu_source" \
    && find Cargo.toml Cargo.lock build.rs build src accounting formats page/dist -type f 2>/dev/null \
    | sed "s,^,	$request_cpu_source/,; s,\$, \\\\,")

# nginx-sys needs NGINX's name of the member that Angie calls angie_sign; see adapt_for_bindings in scripts/lib.sh
request_cpu_build=$request_cpu_objs
request_cpu_adapt=:
# the program that make links
request_cpu_server=nginx
if [ -f src/core/angie.h ]; then
    request_cpu_server=angie
    request_cpu_build=$request_cpu_objs/request_cpu/bindings
    request_cpu_adapt="mkdir -p '$request_cpu_build' && cp $NGX_OBJS/ngx_auto_config.h '$request_cpu_build/' \\
	&& sed 's/^CFLAGS *= */&-Dangie_sign=spare1 /' $NGX_MAKEFILE >'$request_cpu_build/Makefile'"
fi

if [ "$request_cpu_link" = DYNAMIC ]; then
    request_cpu_result=$NGX_OBJS/$request_cpu_library
    request_cpu_command='build'
else
    request_cpu_result=$request_cpu_archive
    request_cpu_command='rustc --lib --crate-type staticlib --features static'
fi

cat << END                                                    >> $NGX_MAKEFILE

$request_cpu_result: \\
$request_cpu_deps
	$NGX_OBJS/ngx_auto_config.h
	$request_cpu_adapt
	cd '$request_cpu_source' && \\
	NGINX_SOURCE_DIR='$(pwd)' \\
	NGINX_BUILD_DIR='$request_cpu_build' \\
	CARGO_TARGET_DIR='$request_cpu_objs/request_cpu' \\
	${CARGO:-cargo} $request_cpu_command --release --locked --no-default-features
END

if [ "$request_cpu_link" != DYNAMIC ]; then
    # cargo does not touch a result that has not changed
    cat << END                                                >> $NGX_MAKEFILE
	touch $request_cpu_result

$NGX_OBJS/$request_cpu_server:	$request_cpu_result

END
else
    # configure makes this path absolute later
    case "$NGX_MODULES_PATH" in
        /*) request_cpu_path=$NGX_MODULES_PATH ;;
        *)  request_cpu_path=$NGX_PREFIX/$NGX_MODULES_PATH ;;
    esac

    cat << END                                                >> $NGX_MAKEFILE
	cp '$request_cpu_objs/request_cpu/release/lib$request_cpu_library' \\
		$request_cpu_result.new
	mv $request_cpu_result.new $request_cpu_result

modules:	$request_cpu_result

install:	request_cpu_install

request_cpu_install:	$request_cpu_result
	test -d '\$(DESTDIR)$request_cpu_path' \\
		|| mkdir -p '\$(DESTDIR)$request_cpu_path'
	test ! -f '\$(DESTDIR)$request_cpu_path/$request_cpu_library' \\
		|| mv '\$(DESTDIR)$request_cpu_path/$request_cpu_library' \\
			'\$(DESTDIR)$request_cpu_path/$request_cpu_library.old'
	cp $request_cpu_result '\$(DESTDIR)$request_cpu_path/$request_cpu_library'

.PHONY:	request_cpu_install

END
fi
