//! cloister-nsm-software
