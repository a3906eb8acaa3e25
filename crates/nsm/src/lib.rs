//! cloister-nsm
