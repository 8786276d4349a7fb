"""Which network a set of tensor names is: the denoisers that are known, each by names that no other has.

Names are without the prefix of their component, in the original or in diffusers' layout, packed weights folded. Order
counts: what is built on another architecture comes before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """kind: see KINDS. Names that are all there, and of which none is."""

    kind: str
    present: tuple[str, ...]
    absent: tuple[str, ...] = ()


_MARKS = (
    # Flux and its kin: double and single blocks
    Mark("chroma_radiance", ("distilled_guidance_layer.in_proj.weight", "nerf_blocks.0.param_generator.weight")),
    Mark("chroma_radiance", ("distilled_guidance_layer.in_proj.weight", "img_in_patch.weight")),
    Mark("chroma", ("distilled_guidance_layer.in_proj.weight",)),
    Mark("hunyuan3d", ("latent_in.weight", "cond_in.weight", "double_blocks.0.img_attn.qkv.weight")),
    Mark("hunyuan3d", ("t_embedder.mlp.2.weight", "blocks.0.attn1.k_norm.weight")),
    Mark("flux3", ("early_stream_modulations.image.lin.weight",)),
    Mark("flux3", ("early_stream_modulations.image.linear.weight",)),
    Mark("flux2", ("double_stream_modulation_img.lin.weight",)),
    Mark("flux2", ("double_stream_modulation_img.linear.weight",)),
    Mark("hunyuan_image", ("txt_in.individual_token_refiner.blocks.0.norm1.weight", "byt5_in.fc1.weight"),
         ("cond_type_embedding.weight",)),
    Mark("hunyuan_video", ("txt_in.individual_token_refiner.blocks.0.norm1.weight",)),
    Mark("hunyuan_video", ("txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.weight",)),
    Mark("hunyuan_image", ("context_embedder.token_refiner.refiner_blocks.0.norm1.weight",
                           "time_guidance_embed.timestep_embedder.linear_1.weight")),
    Mark("hunyuan_video", ("context_embedder.token_refiner.refiner_blocks.0.norm1.weight",)),
    Mark("motif_video", ("context_embedder.linear_1.weight", "single_transformer_blocks.0.attn.to_q.weight",
                         "x_embedder.proj.weight")),
    Mark("joyimage", ("double_blocks.0.img_mod.modulate_table",)),
    Mark("ovis_image", ("context_embedder_norm.weight", "single_transformer_blocks.0.attn.to_q.weight")),
    Mark("ovis_image", ("semantic_txt_norm.weight", "double_blocks.0.img_attn.qkv.weight")),
    Mark("flux", ("single_transformer_blocks.0.proj_mlp.weight", "time_text_embed.text_embedder.linear_1.weight")),
    Mark("longcat_image", ("double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight", "txt_in.weight",
                           "time_in.in_layer.weight"), ("vector_in.in_layer.weight",)),
    Mark("flux", ("double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight")),
    Mark("bria", ("time_embed.timestep_embedder.linear_1.weight", "single_transformer_blocks.0.proj_mlp.weight")),
    # Joint blocks
    Mark("sd3", ("joint_blocks.0.x_block.attn.qkv.weight",)),
    Mark("sd3", ("pos_embed.proj.weight", "transformer_blocks.0.attn.add_q_proj.weight",
                 "time_text_embed.text_embedder.linear_1.weight")),
    Mark("auraflow", ("double_layers.0.attn.w1q.weight", "cond_seq_linear.weight")),
    Mark("auraflow", ("joint_transformer_blocks.0.attn.add_q_proj.weight", "register_tokens")),
    Mark("qwen_image_2", ("txt_in.text_norm.weight",)),
    Mark("lens", ("transformer_blocks.0.img_mlp.w1.weight", "transformer_blocks.0.attn.norm_added_q.weight")),
    Mark("nucleus", ("transformer_blocks.0.img_mod.1.weight", "txt_norm.weight"), ("txt_in.weight", "txt_in.bias")),
    Mark("qwen_image", ("transformer_blocks.0.img_mod.1.weight", "txt_norm.weight")),
    Mark("glm_image", ("glyph_projector.net.0.proj.weight",)),
    Mark("cogview4", ("patch_embed.text_proj.weight", "time_condition_embed.timestep_embedder.linear_1.weight")),
    Mark("mochi", ("blocks.0.attn.qkv_x.weight",)),
    Mark("mochi", ("pos_frequencies", "patch_embed.proj.weight")),
    Mark("hidream", ("double_stream_blocks.0.block.adaLN_modulation.1.weight",)),
    Mark("hidream", ("double_stream_blocks.0.block.attn1.to_q.weight",)),
    # One stream
    Mark("boogu", ("double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight",)),
    Mark("omnigen2", ("ref_image_refiner.0.attn.to_q.weight",)),
    Mark("z_image", ("x_pad_token", "cap_pad_token", "noise_refiner.0.attention.qkv.weight")),
    Mark("z_image", ("x_pad_token", "all_x_embedder.2-1.weight")),
    Mark("newbie", ("clip_text_pooled_proj.0.weight", "noise_refiner.0.attention.qkv.weight")),
    Mark("lumina2", ("cap_embedder.0.weight", "noise_refiner.0.attention.qkv.weight")),
    Mark("lumina2", ("time_caption_embed.caption_embedder.0.weight", "noise_refiner.0.attn.to_q.weight")),
    Mark("lumina", ("cap_embedder.0.weight", "layers.0.attention.wq.weight")),
    Mark("krea2", ("txtfusion.projector.weight",)),
    Mark("krea2", ("text_fusion.projector.weight",)),
    Mark("ernie_image", ("layers.0.adaLN_sa_ln.weight", "text_proj.weight")),
    Mark("ideogram4", ("llm_cond_norm.weight", "embed_image_indicator.weight")),
    Mark("prx", ("blocks.0.attention.img_qkv_proj.weight", "txt_in.weight")),
    Mark("bria", ("perceiver.latent_queries", "noise_refiner.0.attention.to_q.weight")),
    Mark("minimax_h3", ("token_refiner.refiner_blocks.0.norm1.weight", "audio_proj_in.weight")),
    Mark("dit", ("transformer_blocks.0.norm1.emb.timestep_embedder.linear_1.weight", "proj_out_1.weight")),
    Mark("anima", ("llm_adapter.blocks.0.cross_attn.q_proj.weight",)),
    Mark("cosmos", ("x_embedder.proj.1.weight",)),
    Mark("cosmos", ("patch_embed.proj.weight", "transformer_blocks.0.norm1.linear_1.weight")),
    Mark("pixart", ("y_embedder.y_embedding", "t_block.1.weight", "x_embedder.proj.weight"),
         ("blocks.0.mlp.inverted_conv.conv.weight",)),
    Mark("pixart", ("adaln_single.linear.weight", "caption_projection.linear_1.weight", "pos_embed.proj.weight")),
    Mark("sana_video", ("blocks.0.cross_attn.q_linear.weight", "blocks.0.attn.A_log")),
    Mark("sana", ("blocks.0.cross_attn.q_linear.weight", "blocks.0.mlp.inverted_conv.conv.weight")),
    Mark("sana_video", ("caption_norm.weight", "patch_embedding.weight")),
    Mark("sana", ("transformer_blocks.0.ff.conv_inverted.weight", "caption_norm.weight")),
    Mark("hunyuandit", ("mlp_t5.0.weight", "pooler.positional_embedding")),
    Mark("hunyuandit", ("text_embedder.linear_1.weight", "text_embedding_padding")),
    Mark("kandinsky6", ("visual_embeddings.in_layer.weight", "video_text_embeddings.in_layer.weight")),
    Mark("kandinsky5", ("visual_transformer_blocks.0.cross_attention.to_query.weight",)),
    Mark("hidream_o1", ("t_embedder1.mlp.0.weight", "x_embedder.proj1.weight")),
    Mark("omnigen", ("llm.layers.0.self_attn.qkv_proj.weight", "time_token.mlp.0.weight")),
    Mark("hunyuan_image_3", ("layers.0.mlp.experts.0.down_proj.weight", "wte.weight")),
    Mark("amused", ("encoder_proj_layer_norm.weight", "transformer_layers.0.attn1.to_q.weight")),
    Mark("pid", ("lq_proj.latent_proj.0.weight",)),
    Mark("pixeldit", ("core.pixel_embedder.proj.weight",)),
    Mark("prior", ("prd_embedding", "proj_to_clip_embeddings.weight")),
    # Sounds and shapes
    Mark("stable_audio", ("transformer.rotary_pos_emb.inv_freq", "to_cond_embed.0.weight")),
    Mark("stable_audio", ("timestep_proj.0.weight", "global_proj.0.weight", "cross_attention_proj.0.weight")),
    Mark("ace_step", ("genre_embedder.weight",)),
    Mark("ace_step", ("encoder.lyric_encoder.layers.0.input_layernorm.weight",)),
    Mark("trellis", ("img2shape.t_embedder.mlp.0.weight",)),
    Mark("trellis", ("shape2txt.t_embedder.mlp.0.weight",)),
    # Videos
    Mark("seedvr2", ("blocks.31.mlp.all.proj_in_gate.weight", "vid_in.proj.weight")),
    Mark("seedvr2", ("blocks.35.mlp.vid.proj_out.weight", "vid_in.proj.weight")),
    Mark("cogvideo", ("blocks.0.norm1.linear.weight", "patch_embed.text_proj.weight")),
    Mark("cogvideo", ("mixins.patch_embed.proj.weight", "transformer.layers.0.attention.query_key_value.weight")),
    Mark("wan", ("head.modulation", "img_emb.proj.0.weight")),
    Mark("wan", ("head.modulation", "blocks.0.self_attn.q.weight")),
    Mark("wan", ("condition_embedder.text_embedder.linear_1.weight", "blocks.0.attn1.to_q.weight")),
    Mark("ltx", ("patchify_proj.weight", "transformer_blocks.0.scale_shift_table")),
    Mark("ltx", ("proj_in.weight", "transformer_blocks.0.scale_shift_table", "time_embed.linear.weight")),
    Mark("cogvideo", ("time_embedding.linear_1.weight", "transformer_blocks.0.norm1.linear.weight",
                      "patch_embed.proj.weight")),
    # UNets that are no Stable Diffusion
    Mark("cascade_b", ("down_blocks.1.0.channelwise.0.weight", "effnet_mapper.0.weight")),
    Mark("cascade_c", ("clip_txt_mapper.weight",)),
    Mark("cascade_c", ("clip_txt_pooled_mapper.weight", "down_blocks.0.0.depthwise.weight")),
    Mark("video_unet", ("transformer_in.norm.weight", "conv_in.weight")),
    Mark("kandinsky3", ("encoder_hid_proj.projection_linear.weight", "conv_in.weight")),
    Mark("dreamlite", ("down_blocks.0.resnets.0.conv1.depthwise.weight", "conv_in.weight")),
    Mark("animatediff", ("down_blocks.0.motion_modules.0.norm.weight", "conv_in.weight")),
    Mark("svd", ("input_blocks.1.0.time_stack.in_layers.2.weight",)),
    Mark("svd", ("down_blocks.0.resnets.0.spatial_res_block.conv1.weight",)),
    Mark("kolors", ("encoder_hid_proj.weight", "time_embedding.linear_1.weight")),
    Mark("kolors", ("encoder_hid_proj.weight", "time_embed.0.weight")),
    Mark("deepfloyd", ("encoder_hid_proj.weight", "add_embedding.pool.positional_embedding")),
    Mark("kandinsky2", ("encoder_hid_proj.image_embeds.weight", "conv_in.weight")),
    Mark("animatediff", ("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", "conv_in.weight")),
    Mark("unet", ("time_embed.0.weight", "input_blocks.0.0.weight")),
    Mark("unet", ("time_embedding.linear_1.weight", "conv_in.weight")),
    # What is damaged is still to be told from what is unknown
    Mark("unet", ("middle_block.1.proj_in.weight", "middle_block.0.in_layers.0.weight")),
    Mark("unet", ("mid_block.attentions.0.proj_in.weight", "mid_block.resnets.0.norm1.weight"),
         ("controlnet_down_blocks.0.weight",)),
    Mark("flux", ("double_blocks.1.img_attn.qkv.weight", "single_blocks.1.linear1.weight")),
    Mark("sd3", ("joint_blocks.1.x_block.attn.qkv.weight",)),
)  # fmt: skip


def kind_of(names: Mapping[str, object]) -> str:
    """The kind of denoiser with these names, "" where none is known."""
    for mark in _MARKS:
        if all(name in names for name in mark.present) and not any(name in names for name in mark.absent):
            return mark.kind
    return ""
