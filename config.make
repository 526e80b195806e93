# Read by NGINX's ./configure after it has written objs/Makefile: adds the rules for this module. cargo knows what has changed, so
# it is called each time.

request_cpu_source=$(cd "$ngx_addon_dir" && pwd)
request_cpu_objs=$(cd "$NGX_OBJS" && pwd)
request_cpu_library=ngx_http_request_cpu_module.so

cat << END                                                    >> $NGX_MAKEFILE

modules:	$NGX_OBJS/$request_cpu_library

$NGX_OBJS/$request_cpu_library:	request_cpu_always
	cd '$request_cpu_source' && \\
	NGINX_SOURCE_DIR='$(pwd)' \\
	NGINX_BUILD_DIR='$request_cpu_objs' \\
	CARGO_TARGET_DIR='$request_cpu_objs/request_cpu' \\
	${CARGO:-cargo} build --release --locked --no-default-features
	cp '$request_cpu_objs/request_cpu/release/lib$request_cpu_library' \\
		$NGX_OBJS/$request_cpu_library.new
	mv $NGX_OBJS/$request_cpu_library.new $NGX_OBJS/$request_cpu_library

install:	request_cpu_install

request_cpu_install:	$NGX_OBJS/$request_cpu_library
	test -d '\$(DESTDIR)$NGX_MODULES_PATH' \\
		|| mkdir -p '\$(DESTDIR)$NGX_MODULES_PATH'
	test ! -f '\$(DESTDIR)$NGX_MODULES_PATH/$request_cpu_library' \\
		|| mv '\$(DESTDIR)$NGX_MODULES_PATH/$request_cpu_library' \\
			'\$(DESTDIR)$NGX_MODULES_PATH/$request_cpu_library.old'
	cp $NGX_OBJS/$request_cpu_library '\$(DESTDIR)$NGX_MODULES_PATH/$request_cpu_library'

.PHONY:	request_cpu_always request_cpu_install

END
