package server

// NamespaceOf is namespaceOf, for tests.
var NamespaceOf = namespaceOf
