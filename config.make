# For nginx's configure: the part of its Makefile that has cargo build the module.

ngx_addon_name=ngx_http_keystone_module

case "$NGX_OBJS" in
    /*) keystone_objs=$NGX_OBJS ;;
    *)  keystone_objs=$PWD/$NGX_OBJS ;;
esac

# Cargo itself knows what has changed, so it runs each time. It reads the module's own .cargo from
# the directory in which it runs.
cat << END                                                    >> $NGX_MAKEFILE

$keystone_lib:	keystone_cargo
	cd "$ngx_addon_dir" && \\
	NGINX_SOURCE_DIR="$PWD" NGINX_BUILD_DIR="$keystone_objs" \\
	$NGX_CARGO rustc --locked --release --package ngx_http_keystone_module --lib \\
		--crate-type staticlib --no-default-features \\
		--target-dir "$keystone_objs/$ngx_addon_name" $NGX_CARGO_OPT

.PHONY: keystone_cargo
keystone_cargo:
END

if [ $keystone_link = DYNAMIC ]; then
    cat << END                                                >> $NGX_MAKEFILE

$NGX_OBJS${ngx_dirsep}ngx_http_keystone_module$ngx_modext:	$keystone_lib
END
fi
