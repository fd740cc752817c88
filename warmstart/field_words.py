"""Words of the field that mean about the same, one group per line; a word may be in several groups.

Used by `search.py`, so that "make my model bigger" finds what the papers call growing. A phrase is written with `_`.
Endings do not matter (`grow` stands for growing and grows). Put a word in when a search for it should have found
something and did not; a group of words that are merely related makes every search worse.
"""

from __future__ import annotations

GROUPS = """
grow growth expand enlarge scale_up upscale upscaling bigger wider deeper widen deepen bert2bert
widen wide width wider neuron
deepen depth deeper stack layer
reuse recycle inherit transfer warm_start initialise initialize initialization start_from
scratch nothing random_initialization from_noise new_model
small little tiny compact
cheap efficient save saved saving cost compute budget flops
fast faster speed speedup speed_up throughput quick time tokens_per_second accelerate
continue continual continued go_on keep_training further_training resume pretrain_further train_on
domain specialise specialize adapt adaptation field_specific
forget forgetting catastrophic_forgetting stability retention remember dip old_abilities
rewarm re_warm warmup warm_restart restart raise_the_learning_rate
learning_rate lr step_size schedule cosine decay anneal
cooldown decay anneal annealing
metadata url header provenance source domain_name website where_documents_come_from condition conditioning tag prefix
mix mixture blend proportion ratio sample sampling reweight mixture_weights domain_weights doremi
curriculum order ordering easy_first skill schedule_of_data
skill ability capability task
select selection filter choose pick prune_data curate curation clean quality
balance flatten even long_tail tail rare head concept entry
duplicate dedup deduplicate deduplication near_duplicate minhash
replay rehearsal old_data experience_replay
ewc elastic_weight_consolidation
si synaptic_intelligence
image picture photo vision visual
caption alt_text image_text clip contrastive
encoder bert masked mlm bidirectional
decoder causal gpt llama autoregressive language_model llm lm
padding pad unpad unpadded variable_length ragged packing pack varlen flash
short sentence paragraph
distil distill distillation teacher_student student knowledge_distillation compress
prune pruning sparse sparsity sparsify mask
merge merging soup average model_soup combine ensemble
expert moe mixture_of_experts upcycle upcycling
vocabulary vocab tokenizer token tokenise tokenize
embed embedding retrieval similarity sentence_transformer matryoshka dense_retrieval
speech audio voice sound asr wav2vec recording
video clip_of_video film
graph molecule node
code program python source_code software
forecast predict prediction extrapolate scaling_law learning_curve early_stopping
stop early_stopping kill prune_runs give_up
rewrite rephrase paraphrase synthetic augment augmentation
perplexity loss score
language multilingual cross_lingual lingual translation
"""
