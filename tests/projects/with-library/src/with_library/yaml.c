#include <Python.h>
#include <yaml.h>

static PyObject *scalars(PyObject *self, PyObject *text)
{
    yaml_parser_t parser;
    yaml_event_t event;
    PyObject *found = PyList_New(0);
    int more = found && PyBytes_Check(text) && yaml_parser_initialize(&parser);

    if (!more)
        return PyErr_Format(PyExc_TypeError, "cannot be read");
    yaml_parser_set_input_string(&parser, (unsigned char *)PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text));
    while (more && yaml_parser_parse(&parser, &event)) {
        if (event.type == YAML_SCALAR_EVENT) {
            PyObject *each = PyUnicode_FromString((char *)event.data.scalar.value);
            more = each && PyList_Append(found, each) == 0;
            Py_XDECREF(each);
        }
        more = more && event.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return found;
}

static PyObject *version(PyObject *self, PyObject *unused) { return PyUnicode_FromString(yaml_get_version_string()); }

static PyMethodDef methods[] = {
    {"scalars", scalars, METH_O, "The scalars of a YAML text."},
    {"version", version, METH_NOARGS, "libyaml's version."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_yaml", NULL, -1, methods};

PyMODINIT_FUNC PyInit__yaml(void) { return PyModule_Create(&module); }
