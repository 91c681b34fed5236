#include <Python.h>
#include <features.h>

/* What it was compiled against: glibc says its version, musl nothing. */
#ifdef __GLIBC__
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define LIBC "glibc " TEXT(__GLIBC__) "." TEXT(__GLIBC_MINOR__)
#else
#define LIBC "musl"
#endif

static PyObject *answer(PyObject *self, PyObject *unused) { return PyLong_FromLong(42); }

static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, "The answer."}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_answer", NULL, -1, methods};

PyMODINIT_FUNC PyInit__answer(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made && PyModule_AddStringConstant(made, "libc", LIBC) < 0)
        Py_CLEAR(made);
    return made;
}
